"""Fit the probes of the exam to ground truth: ``python -m omni.exams.fit_probes eye|motion|ear``.

Pictures and clips are drawn, blurred, compressed and made noisy, since what a codec gives back is softer than what was
drawn; speech is put into mild rooms. No probe ever sees what a model made.
"""

from __future__ import annotations

import argparse
import io
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from omni.exams.ear import BEFORE, FRAME, RATE, SILENCE, Ear, Lexicon, log_mels
from omni.exams.probes import CELL, FOLDER, THINGS, Eye, MotionEye, Probes, save, scene_of
from omni.exams.probes import background as background_of
from omni.primer.tokenizers.image import SIZE, to_tensor
from omni.primer.tokenizers.text import normalise
from omni.primer.training import dialogues, precision, voices, wordings, world
from omni.primer.training.optim import muon_for, set_rate

log = logging.getLogger(__name__)
SEED = 20261122  # of all probes; training uses small numbers
EAR_VOICES = voices.TRAIN_VOICES[:14]
_INDEX = {thing: 1 + index for index, thing in enumerate(THINGS)}


def softened(pictures: np.ndarray, rng: np.random.Generator) -> Tensor:
    """(B, 64, 64, 3) uint8 to (B, 3, 64, 64): some compressed, blurred, at half the sharpness, tinted, all noisy."""
    squeezed = [_compressed(picture, rng) if rng.random() < 0.25 else picture for picture in pictures]
    clean = to_tensor(np.stack(squeezed))
    blurred = F.avg_pool2d(F.pad(clean, (1, 1, 1, 1), mode="replicate"), 3, 1)
    coarse = F.interpolate(F.avg_pool2d(clean, 2), scale_factor=2.0, mode="bilinear")
    weights = torch.from_numpy(rng.dirichlet((1.0, 0.5, 0.5), len(clean))).float()
    mixed = sum(weights[:, index, None, None, None] * one for index, one in enumerate((clean, blurred, coarse)))
    tint = torch.from_numpy(rng.normal(0, 0.02, (len(clean), 3, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(mixed.shape, np.float32)) * float(rng.uniform(0, 0.05))
    return (mixed + tint + noise).clamp(0, 1)


def _compressed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture as a JPEG of poor quality shows it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=int(rng.integers(30, 80)))
    return np.asarray(Image.open(file))


def cells(things: list[tuple]) -> Tensor:
    """Things as (thing, pixels, row, column, ...) to the class of each cell, (16, 16) int64."""
    side = SIZE // CELL
    target = torch.zeros(side, side, dtype=torch.long)
    middle = (np.arange(side) + 0.5) * CELL
    for thing, pixels, row, column, *_ in things:
        near = np.hypot(middle[:, None] - row, middle[None] - column) < max(3.6, 0.2 * pixels)
        target[torch.from_numpy(near)] = _INDEX[thing]
    return target


def eye_batch(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Scenes, frames of clips and some pictures from outside the book, (B, 3, 64, 64), and their cells."""
    pictures, targets = [], []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.74:
            scene = world.random_scene(rng)
            pictures.append(world.draw(scene, rng))
            targets.append(cells(world.placements(scene)))
        elif kind < 0.97:
            clip, index = world.random_clip(rng), int(rng.integers(world.FRAMES))
            pictures.append(world.animate(clip, rng)[0][index])
            targets.append(cells(world.moment(clip, index / (world.FRAMES - 1))))
        else:
            pictures.append(world.unknown_picture(rng))
            targets.append(cells([]))
    return softened(np.stack(pictures), rng), torch.stack(targets)


def eye_loss(eye: Eye, rng: np.random.Generator) -> Tensor:
    pictures, targets = eye_batch(rng, 32)
    weight = torch.ones(1 + len(THINGS))
    weight[0] = 0.3  # most cells are empty
    with precision.autocast():
        logits = eye(pictures.to(memory_format=torch.channels_last))
    return F.cross_entropy(logits.float(), targets, weight)


def motion_loss(eye: MotionEye, rng: np.random.Generator) -> Tensor:
    clips = [world.random_clip(rng) for _ in range(32)]
    frames = [softened(world.animate(clip, rng)[0], rng) for clip in clips]
    target = torch.tensor([list(world.MOTIONS).index(clip.motion) for clip in clips])
    with precision.autocast():
        logits = eye(torch.stack(frames))
    return F.cross_entropy(logits.float(), target)


def lexicon(count: int = 12000) -> tuple[str, ...]:
    """All words of the book's own language, what lies outside of it left out."""
    rng = np.random.default_rng(SEED)
    kinds = (dialogues.draw, dialogues.describe, dialogues.ask, dialogues.watch, dialogues.film, dialogues.heard)
    words = {word for _ in range(count) for word in dialogues.some_words(rng).split()}
    for index in range(count):
        words.update(normalise(kinds[index % len(kinds)](rng).turns[0].reply).split())
    for _, replies in wordings.TALK:
        words.update(word for reply in replies for word in normalise(reply).split())
    return tuple(sorted(word for word in words if word.isalpha()))


def _sentence(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    """Half the time a sentence of the book, else a heap of its words."""
    said = dialogues.some_words(rng)
    if rng.random() < 0.5 and set(said.split()) <= set(words):
        return said
    return " ".join(words[place] for place in rng.integers(0, len(words), rng.integers(2, 8)))


def language(words: tuple[str, ...], count: int = 2000) -> tuple[tuple[str, ...], Lexicon]:
    """The phonemes of all voices, and how Primer's two speakers say each word, in sentences and heaps."""
    rng, phonemes = np.random.default_rng(SEED), set()
    ways: dict[str, Counter] = {word: Counter() for word in words}
    for index in range(count):
        in_turn = " ".join(words[(2 * index + place) % len(words)] for place in range(4))
        own = index < 0.8 * count  # the rest only tells the phonemes of the other voices
        voice = EAR_VOICES[index // 2 % 2 if own else rng.integers(len(EAR_VOICES))]
        said = _sentence(rng, words) if index % 2 else in_turn
        spoken = voices.speak(said, voice)
        sounds = [(label, (start + end) / 2) for label, start, end in spoken.phonemes if _sounds(label)]
        phonemes.update(label for label, _ in sounds)
        if own:
            for word, (start, end) in zip(said.split(), spoken.words, strict=True):
                ways[word][tuple(label for label, middle in sounds if start <= middle < end)] += 1
    return tuple(sorted(phonemes)), _pruned(ways)


def _pruned(ways: dict[str, Counter]) -> Lexicon:
    """The usual pronunciations of each word; of those that two words share, the commoner word keeps them.

    A pronunciation that is another one behind a sound of the word before ("an apple" as "a napple") is none.
    """
    most: Counter = Counter()
    for counter in ways.values():
        for way, times in counter.items():
            most[way] = max(most[way], times)
    lexicon = {}
    for word, counter in ways.items():
        enough = 0.08 * counter.total()
        usual = [way for way, times in counter.most_common(4) if way and times >= max(enough, most[way])]
        lexicon[word] = [list(way) for way in usual if way[1:] not in usual]
    return {word: kept for word, kept in lexicon.items() if kept}


def _sounds(label: str) -> bool:
    return bool(label) and label[0] not in "_;"


def ear_batch(rng: np.random.Generator, ear: Ear, count: int) -> tuple[Tensor, Tensor]:
    """Spoken sentences: log-mels (B, 64, 2 T), some blurred or noisy, and the phoneme of each frame (B, T)."""
    index = {phoneme: 1 + place for place, phoneme in enumerate(ear.phonemes)}
    words, sounds, marks = tuple(ear.lexicon), [], []
    for _ in range(count):
        voice = EAR_VOICES[rng.integers(2 if rng.random() < 0.5 else len(EAR_VOICES))]
        spoken = voices.speak(_sentence(rng, words), voice)
        sounds.append(voices.room(spoken.samples, rng, 0.5, shift=False))
        marks.append(spoken.phonemes)
    samples = torch.zeros(count, max(map(len, sounds)))
    for row, sound in zip(samples, sounds, strict=True):
        row[: len(sound)] = torch.from_numpy(sound)
    mels = log_mels(samples)
    target = torch.zeros(count, mels.shape[2] // 2, dtype=torch.long)
    for row, spoken in zip(target, marks, strict=True):
        for label, start, end in spoken:
            first, last = (round((second * RATE + BEFORE) / FRAME) for second in (start, end))
            row[first:last] = index.get(label, -100) if _sounds(label) else SILENCE
    if rng.random() < 0.5:
        mels = F.avg_pool2d(mels, (3, 1), 1, (1, 0), count_include_pad=False)
    if rng.random() < 0.5:
        mels = F.avg_pool2d(mels, (1, 3), 1, (0, 1), count_include_pad=False)
    return mels + torch.from_numpy(rng.standard_normal(mels.shape, np.float32)) * float(rng.uniform(0, 0.2)), target


def ear_loss(ear: Ear, rng: np.random.Generator) -> Tensor:
    mels, target = ear_batch(rng, ear, 12)
    with precision.autocast():
        logits = ear(mels)
    return F.cross_entropy(logits.float(), target)


def fit(probe: torch.nn.Module, loss_of, steps: int, lr: float, path: Path) -> None:
    """Take ``steps`` steps of Muon and write the weights; the same seed gives the same probe."""
    rng = np.random.default_rng(SEED)
    optimizer = muon_for(probe, lr=lr, adam_lr=3e-3)
    probe.train()
    total = 0.0
    for step in range(1, steps + 1):
        set_rate(optimizer, min(1.0, step / 20, (steps - step + 1) / (0.5 * steps)))
        loss = loss_of(probe, rng)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item()
        if step % 50 == 0:
            log.info("%s step %d of %d loss %.4f", type(probe).__name__, step, steps, total / 50)
            total = 0.0
        if step % 250 == 0 or step == steps:
            save(probe, path)


def eye_score(probes: Probes, count: int = 300) -> float:
    """Share of fresh held-out pictures that the Eye reads in full, in percent."""
    rng = np.random.default_rng(SEED + 1)
    right = 0
    for _ in range(count):
        scene = world.canonical(world.random_scene(rng, held_out=True))
        picture = world.draw(scene, rng)
        read = scene_of(probes.things(picture), background_of(picture))
        right += read is not None and read.key == scene.key
    return 100 * right / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("probe", choices=("eye", "motion", "ear"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    make, loss_of, steps, lr = {
        "eye": (lambda: Eye().to(memory_format=torch.channels_last), eye_loss, 1100, 0.03),
        "motion": (MotionEye, motion_loss, 250, 0.03),
        "ear": (lambda: Ear(*language(lexicon())), ear_loss, 700, 0.03),
    }[arguments.probe]
    fit(make(), loss_of, arguments.steps or steps, lr, arguments.out / f"{arguments.probe}.safetensors")
    if arguments.probe == "eye":
        log.info("held-out pictures read in full: %.1f%%", eye_score(Probes(arguments.out)))


if __name__ == "__main__":
    main()
