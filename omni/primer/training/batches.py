"""From dialogues to training batches: draws, speaks, tokenises, and says what is to be predicted.

Only Primer's own words, pictures and sounds are predicted. In what the user says and shows, each spoken word is to be
named where it ends and each thing where its picture stands: a second reading of the same pass that teaches ear and eye
(labels ``names``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from omni.primer import vocabulary as v
from omni.primer.processing import AUDIO_SPLITS, CODES_PER_SECOND, FRAMES, GRID, IMAGE_CODES, Sequence, Tokenizers
from omni.primer.tokenizers.audio import HOP
from omni.primer.tokenizers.text import normalise
from omni.primer.tokenizers.video import LATER_CODES
from omni.primer.training import effects, precision, sounds, voices, world
from omni.primer.training.dialogues import pair, random_dialogue
from omni.primer.training.turns import (
    Blank,
    Dialogue,
    Effect,
    Music,
    Said,
    Shown,
    Silence,
    Sounding,
    Tone,
    Tune,
    Turn,
    Unknown,
)
from omni.primer.training.world import Clip, Scene

TONE_SECONDS, NOTE_SECONDS = 0.8, 0.36  # a note alone, and one of a tune
SILENT_SECONDS = 0.5, 2.0
CLIP_SECONDS = world.FRAMES / world.FPS
NAMING_FRAMES = 3  # at the end of a spoken word, in which it is to be named
MAX_TOKENS = 640
POOL_STEPS = 20  # steps whose samples are sorted together: the more, the less padding
LENGTH = 32  # the length of a batch is a multiple of this
PAIRED = 0.14  # of all draws are two dialogues about one scene
ENCODE_BATCH = 32  # pictures encoded at once; a quarter as many sounds


@dataclass
class Sample:
    """One tokenised dialogue: what stands, what is predicted from each place, which spoken word ends there."""

    sequence: Sequence = field(default_factory=Sequence)
    predicted: list[bool] = field(default_factory=list)  # is this token to be predicted from the one before it
    names: dict[int, int] = field(default_factory=dict)  # place -> text id of the word or thing to be named here
    verdicts: list[int] = field(default_factory=list)  # places of tokens that say whether it is what was asked for
    anchor: int | None = None  # place where the first mention of the scene ends
    pair: int | None = None  # samples with the same number are about the same scene

    def mark(self, predict: bool) -> None:
        """Everything added since the last mark is predicted, or not."""
        self.predicted += [predict] * (len(self.sequence) - len(self.predicted))


BLANK_IMAGE = [0] * IMAGE_CODES
BLANK_CLIP = BLANK_IMAGE, [[0] * LATER_CODES] * (FRAMES - 1)


# One sample, or the two of a pair, in which somebody speaks.
Voiced = Callable[[np.random.Generator, int], list[Sample]]


@dataclass
class Uncoded:
    """A medium whose codes are still to be written to ``places`` of ``ids``."""

    medium: np.ndarray
    ids: list[int]
    places: list[int]


class Scribe:
    """Writes dialogues as samples; the codes of their media are filled in by ``flush``, many at once.

    State: the tokenisers, the random numbers of jitter, rooms and voices, and the media that wait for their codes.
    """

    def __init__(self, tokenizers: Tokenizers, rng: np.random.Generator, listen_to=voices.TRAIN_VOICES):
        self.tokenizers, self.rng, self.listen_to = tokenizers, rng, listen_to
        self._images: list[Uncoded] = []
        self._clips: list[Uncoded] = []
        self._sounds: list[Uncoded] = []

    def flush(self) -> None:
        """Encode all waiting media, batch by batch, and write their codes into the samples."""
        for start in range(0, len(self._images), ENCODE_BATCH):
            batch = self._images[start : start + ENCODE_BATCH]
            self._fill(batch, self.tokenizers.encode_images(np.stack([one.medium for one in batch])), v.VISUAL_START)
        for start in range(0, len(self._clips), ENCODE_BATCH // FRAMES):
            batch = self._clips[start : start + ENCODE_BATCH // FRAMES]
            codes = self.tokenizers.encode_clips(np.stack([one.medium for one in batch]))
            self._fill(batch, [sum(later, first) for first, later in codes], v.VISUAL_START)
        self._sounds.sort(key=lambda one: len(one.medium))
        for start in range(0, len(self._sounds), ENCODE_BATCH // 4):
            batch = self._sounds[start : start + ENCODE_BATCH // 4]
            self._fill(batch, self.tokenizers.encode_sounds([one.medium for one in batch]), v.AUDIO_START)
        self._images, self._clips, self._sounds = [], [], []

    @staticmethod
    def _fill(batch: list[Uncoded], codes: list[list[int]], base: int) -> None:
        for one, row in zip(batch, codes, strict=True):
            for place, code in zip(one.places, row, strict=True):
                one.ids[place] = base + code

    def _wait(self, queue: list[Uncoded], medium: np.ndarray, sequence: Sequence, start: int, modality: str) -> None:
        """Have the placeholders of ``modality`` from ``start`` on filled with the codes of ``medium``."""
        places = [place for place in range(start, len(sequence)) if v.modality(sequence.ids[place]) == modality]
        queue.append(Uncoded(medium, sequence.ids, [place for place in places if sequence.ids[place] != v.AUDIO_END]))

    def _image(self, sequence: Sequence, picture: np.ndarray) -> None:
        start = len(sequence)
        sequence.image(BLANK_IMAGE)
        self._wait(self._images, picture, sequence, start, "visual")

    def _clip(self, sequence: Sequence, frames: np.ndarray, sound: np.ndarray | None = None) -> None:
        start = len(sequence)
        sequence.video(*BLANK_CLIP, None if sound is None else [0] * AUDIO_SPLITS[-1])
        self._wait(self._clips, frames, sequence, start, "visual")
        if sound is not None:
            self._wait(self._sounds, sound, sequence, start, "audio")

    def _sound(self, sequence: Sequence, samples: np.ndarray) -> int:
        """One stretch of sound; the number of its codes."""
        start, count = len(sequence), -(-len(samples) // HOP)
        sequence.audio([0] * count)
        self._wait(self._sounds, samples, sequence, start, "audio")
        return count

    def write(self, dialogue: Dialogue) -> Sample:
        """Tokens of a dialogue, its media still without codes."""
        sample = Sample()
        sample.sequence.push(v.BEGIN)
        for turn in dialogue.turns:
            self._user(sample, turn.user, dialogue)
            self._reply(sample, turn)
        return sample

    def _user(self, sample: Sample, parts: tuple[Shown, ...], dialogue: Dialogue) -> None:
        sequence = sample.sequence
        first_turn = not sample.predicted
        sequence.push(v.USER)
        for index, part in enumerate(parts):
            self._show(sample, part)
            if first_turn and index == 0 and dialogue.about is not None:
                sample.anchor = len(sequence) - 1
        sample.mark(False)

    def _show(self, sample: Sample, part: Shown) -> None:
        """One part that the user sends."""
        match part:
            case str():
                sample.sequence.extend(self.tokenizers.text.encode(normalise(part)))
            case Said():
                self._hear(sample, part.words)
            case Scene() | Unknown():
                known = isinstance(part, Scene)
                picture = world.draw(part, self.rng) if known else world.unknown_picture(self.rng)
                if known:
                    self._name_things(sample, world.placements(part))
                self._image(sample.sequence, picture)
            case Clip():
                self._name_things(sample, world.placements(part))
                self._clip(sample.sequence, world.animate(part, self.rng)[0])
            case Blank(background, moving):
                plain = world.ground(background, world.SIZE, self.rng).clip(0, 255).astype(np.uint8)
                if moving:
                    self._clip(sample.sequence, np.stack([plain] * FRAMES))
                else:
                    self._image(sample.sequence, plain)
            case Silence():
                self._sound(sample.sequence, voices.hush(self.rng.uniform(*SILENT_SECONDS), self.rng))
            case Tone() | Tune() | Effect():
                self._sound(sample.sequence, voices.room(self._played(part), self.rng, 0.5, shift=False))

    def _played(self, music: Music) -> np.ndarray:
        """What somebody plays: never twice the same."""
        match music:
            case Tone(note, timbre):
                return sounds.tone(note, timbre, self.rng.uniform(0.5, 1.0), self.rng)
            case Tune(notes, timbre):
                return sounds.tune(notes, timbre, self.rng.uniform(0.3, 0.42), self.rng)
            case Effect(name):
                return effects.effect(name, self.rng)

    def _name_things(self, sample: Sample, placed: list[tuple[world.Thing, float, float, float]]) -> None:
        """Have each thing of the picture that comes next named by the codes of its lower half."""
        start = len(sample.sequence) + 1
        for thing, pixels, row, column in placed:
            token = self.tokenizers.text.encode(thing.name)[0]
            for index in range(IMAGE_CODES):
                y, x = ((place + 0.5) * world.SIZE / GRID for place in divmod(index, GRID))
                if row <= y <= row + pixels / 2 and abs(x - column) <= pixels / 2:
                    sample.names[start + index] = token

    def _hear(self, sample: Sample, text: str) -> None:
        """Words that the user speaks in a room, each to be named where it ends."""
        voice = self.listen_to[self.rng.integers(len(self.listen_to))]
        spoken = voices.speak(text, voice)
        samples, before = voices.in_time(voices.room(spoken.samples, self.rng), self.rng)
        start = len(sample.sequence) + 1
        count = self._sound(sample.sequence, samples)
        for word, (_, end) in zip(text.split(), spoken.words, strict=True):
            token = self.tokenizers.text.encode(normalise(word))[0]
            last = min(int((before + end) * CODES_PER_SECOND), count)
            sample.names |= {start + place: token for place in range(max(0, last - NAMING_FRAMES), last)}

    def _reply(self, sample: Sample, turn: Turn) -> None:
        sequence, text = sample.sequence, self.tokenizers.text
        sequence.push(v.ASSISTANT)
        sample.mark(False)
        if heard := [part for part in turn.user if isinstance(part, Sounding)]:
            sequence.push(v.HEAR)
            sample.mark(False)
            sequence.extend(text.encode(normalise(heard[0].words)))
        speaker = v.SPEAKERS[self.rng.integers(len(v.SPEAKERS))]
        for words, made in ((turn.reply, turn.made), *turn.then):
            if turn.spoken:
                self._speak(sample, words, speaker, predict=not turn.given)
            else:
                sequence.push(v.WRITE)
                sample.verdicts += [len(sequence) + place for place in self._verdict(words)]
                sequence.extend(text.encode(words))
            if made is not None:
                self._make(sample, made)
        sequence.push(v.END)
        sample.mark(not turn.given)

    def _verdict(self, reply: str) -> list[int]:
        """Where a written reply goes on after what is seen, or ends: the tokens that say yes or no."""
        if not reply.startswith(("I see ", "It is ")):
            return []
        place = len(self.tokenizers.text.encode(re.split("[.,]", reply, maxsplit=1)[0]))
        return [place, place + 1] if "," in reply else [place]

    def _speak(self, sample: Sample, reply: str, speaker: str, predict: bool) -> None:
        """The reply in one of Primer's own voices: each word written, then sounded (arXiv 2604.15804, ARIA)."""
        sequence = sample.sequence
        spoken = voices.speak(reply, voices.voice(speaker))
        count = -(-len(spoken.samples) // HOP)
        sequence.push(v.SPEAK)
        sample.mark(predict)
        sequence.push(v.VOICE[speaker])
        sample.mark(False)
        ends = [int(end * CODES_PER_SECOND) for _, end in spoken.words[:-1]] + [count]
        start, begin = 0, len(sequence)
        for word, end in zip(reply.split(), ends, strict=True):
            sequence.extend(self.tokenizers.text.encode(word))
            sequence.audio([0] * (end - start))
            start = end
        self._wait(self._sounds, spoken.samples, sequence, begin, "audio")

    def _make(self, sample: Sample, made: Scene | Clip | Music) -> None:
        """What Primer makes after its words, always in its own hand: without the jitter of what it is shown."""
        match made:
            case Scene():
                self._image(sample.sequence, world.draw(made, None))
            case Clip():
                frames, events = world.animate(made, None)
                self._clip(sample.sequence, frames, sounds.motion_sound(made.motion, CLIP_SECONDS, events))
            case Tone():
                self._sound(sample.sequence, sounds.tone(made.note, made.timbre, TONE_SECONDS))
            case Tune():
                self._sound(sample.sequence, sounds.tune(made.notes, made.timbre, NOTE_SECONDS))
            case Effect():
                self._sound(sample.sequence, effects.effect(made.name))


def collate(samples: list[Sample], shape: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """Samples to padded tensors, as small as they can be or of the ``shape`` (B, L) that is asked for.

    ``ids`` (B, L), ``positions`` (B, L, 3), ``labels`` (B, L): the next id where it is to be predicted, else -100;
    ``names`` (B, L): the word or thing to be named here, else -100; ``verdicts`` (B, L): the labels that say whether
    something is what was asked for, else -100; ``pairs`` (P, 4): row and place of two first
    mentions of one scene, told and shown.
    """
    shape = shape or (len(samples), max(len(sample.sequence) for sample in samples))
    ids = torch.full(shape, v.PAD)
    labels, names, verdicts = (torch.full(shape, -100) for _ in range(3))
    positions = torch.zeros(*shape, 3)
    for row, sample in enumerate(samples):
        tokens = torch.tensor(sample.sequence.ids)
        ids[row, : len(tokens)] = tokens
        positions[row, : len(tokens)] = torch.tensor(sample.sequence.positions)
        labels[row, : len(tokens) - 1] = torch.where(torch.tensor(sample.predicted[1:]), tokens[1:], -100)
        for place, token in sample.names.items():
            names[row, place] = token
        for place in sample.verdicts:
            verdicts[row, place - 1] = labels[row, place - 1]
    told = {"ids": ids, "positions": positions, "labels": labels, "names": names, "verdicts": verdicts}
    return told | {"pairs": _pairs(samples)}


def _pairs(samples: list[Sample]) -> Tensor:
    """(P, 4) rows and anchors of samples that were written as a pair."""
    by_pair: dict[int, list[int]] = {}
    for row, sample in enumerate(samples):
        if sample.pair is not None and sample.anchor is not None:
            by_pair.setdefault(sample.pair, []).append(row)
    rows = [pair for pair in by_pair.values() if len(pair) == 2]
    return torch.tensor([[a, samples[a].anchor, b, samples[b].anchor] for a, b in rows]).view(-1, 4)


class Stream(IterableDataset):
    """Endless steps of training, each a list of micro-batches of samples of like length."""

    def __init__(self, weights: Path, tokens: int, micro: int, seed: int, voiced: Voiced | None = None):
        """What is said aloud is taken from ``voiced``, if given: a machine without voices has it packed."""
        self.weights, self.tokens, self.micro, self.seed, self.voiced = weights, tokens, micro, seed, voiced

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        seed = self.seed * 1000 + (worker.id if worker else 0)
        torch.set_num_threads(1)
        scribe = Scribe(Tokenizers.load(self.weights), np.random.default_rng(seed))
        with precision.autocast():
            yield from self._steps(scribe)

    def _steps(self, scribe: Scribe):
        while True:
            batches = micro_batches(pool(scribe, POOL_STEPS * self.tokens, self.voiced), self.micro)
            order = scribe.rng.permutation(len(batches))
            for step in np.array_split(order, min(POOL_STEPS, len(batches))):  # a step has one batch at least
                yield [batches[index] for index in step]


def some_dialogues(rng: np.random.Generator) -> tuple[Dialogue, ...]:
    """A dialogue, or now and then a pair of them about one scene."""
    return pair(rng) if rng.random() < PAIRED else (random_dialogue(rng),)


def pool(scribe: Scribe, tokens: int, voiced: Voiced | None = None) -> list[Sample]:
    """Random samples of about ``tokens`` tokens in all, shortest first, the two of a pair side by side."""
    samples, total, rng = [], 0, scribe.rng
    while total < tokens:
        dialogues = some_dialogues(rng)
        if voiced is not None and any(one.voiced for one in dialogues):
            fresh = voiced(rng, len(dialogues))
        else:
            fresh = [scribe.write(dialogue) for dialogue in dialogues]
        if len(fresh) == 2:
            number = int(rng.integers(1 << 30))
            for sample in fresh:
                sample.pair = number
        fresh = [sample for sample in fresh if len(sample.sequence) <= MAX_TOKENS]
        samples += fresh
        total += sum(len(sample.sequence) for sample in fresh)
    scribe.flush()
    longest: dict[int, int] = {}
    for sample in samples:
        longest[sample.pair] = max(longest.get(sample.pair, 0), len(sample.sequence))
    return sorted(samples, key=lambda s: (len(s.sequence) if s.pair is None else longest[s.pair], s.pair or 0))


def micro_batches(samples: list[Sample], tokens: int) -> list[dict[str, Tensor]]:
    """Samples of like length in batches of at most ``tokens`` places, padding included.

    There are few shapes, one for each multiple of LENGTH: oneDNN compiles a kernel for every new one.
    """
    batches, batch, length = [], [], 0
    for sample in samples:
        longer = max(length, -(-len(sample.sequence) // LENGTH) * LENGTH)
        if batch and (len(batch) + 1) * longer > tokens:
            batches.append(collate(batch, (max(1, tokens // length), length)))
            batch, longer = [], -(-len(sample.sequence) // LENGTH) * LENGTH
        batch.append(sample)
        length = longer
    return [*batches, collate(batch, (max(1, tokens // length), length))] if batch else batches


def text_corpus(count: int, seed: int = 0):
    """Lines of the book's language for fitting the word pieces."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        for turn in random_dialogue(rng).turns:
            yield turn.reply
            yield from (normalise(part if isinstance(part, str) else part.words)
                        for part in turn.user if isinstance(part, (str, Said)))  # fmt: skip
