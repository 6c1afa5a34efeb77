"""The questions of the exam: media, words, and what is true. Knows nothing of models.

Scenes, clips, sentences and questions outside of the book are those that training leaves out, except where a row is
about what was trained. The same seed asks the same questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omni.engine import Modality
from omni.exams import forms
from omni.primer.training import dialogues, effects, outside, sounds, voices, wordings, world
from omni.primer.training.turns import Effect, Tone, pick
from omni.primer.training.world import Clip, Scene

PICTURE_TEMPERATURE = 0.7  # pictures, clips and voices are sampled; words are the likeliest
ROOM = 0.3  # strength of the rooms that spoken questions are asked in
TEXT: frozenset[Modality] = frozenset({"text"})
ALOUD: frozenset[Modality] = frozenset({"text", "speech"})


@dataclass(frozen=True)
class Picture:
    """(64, 64, 3) uint8."""

    pixels: np.ndarray


@dataclass(frozen=True)
class Film:
    """(8, 64, 64, 3) uint8, 4 frames a second."""

    frames: np.ndarray


@dataclass(frozen=True)
class Sound:
    """(N,) float32 mono at 16 kHz."""

    samples: np.ndarray


@dataclass(frozen=True)
class Question:
    """What the user sends, what is true, and how the reply is to be sampled."""

    parts: tuple[str | Picture | Film | Sound, ...]
    truth: Scene | Clip | Tone | Effect | str
    temperature: float = 0.0
    voice: str | None = None  # the reply is spoken in it
    outputs: frozenset[Modality] | None = None  # that the reply may use; None is as asked
    form: str = ""  # in which the book answers, for an engine that has not read it
    route: str = ""  # by which the same question is asked as by others
    beside: np.ndarray | None = None  # (N,) samples that are judged with it and not sent


def captions(rng: np.random.Generator, count: int) -> list[Question]:
    """What is in this picture? Held-out scenes."""
    asked = []
    for scene in [world.random_scene(rng, held_out=True) for _ in range(count)]:
        picture = Picture(world.draw(scene, rng))
        asked.append(Question((picture, pick(rng, wordings.SEE)), scene, outputs=TEXT, form=forms.SCENE))
    return asked


def picture_questions(rng: np.random.Generator, count: int) -> list[Question]:
    """One question about a held-out picture, with its exact answer."""
    asked = []
    for _ in range(count):
        scene = world.random_scene(rng, held_out=True)
        words, answer = dialogues.question_about(scene, rng)
        asked.append(Question((Picture(world.draw(scene, rng)), words), answer, outputs=TEXT, form=forms.ANSWER))
    return asked


def pictures(rng: np.random.Generator, count: int, held_out: bool) -> list[Question]:
    """Draw this scene, described in full."""
    scenes = [world.random_scene(rng, held_out) for _ in range(count)]
    requests = [pick(rng, wordings.DRAW).format(world.caption(scene)) for scene in scenes]
    return [Question((words,), scene, PICTURE_TEMPERATURE) for words, scene in zip(requests, scenes, strict=True)]


def spoken(rng: np.random.Generator, count: int, speakers: tuple[voices.Voice, ...]) -> list[Question]:
    """What does the user say? Requests about held-out scenes and clips, small talk, and questions about a picture."""
    asked = []
    for _ in range(count):
        words, shown = _request(rng)
        said = voices.speak(words, pick(rng, speakers)).samples
        asked.append(Question((*shown, Sound(voices.room(said, rng, ROOM, shift=False))), words))
    return asked


def _request(rng: np.random.Generator) -> tuple[str, tuple[Picture, ...]]:
    """Words that a user speaks, and the picture that they are about."""
    scene = world.random_scene(rng, held_out=True)
    kind = rng.random()
    if kind < 0.55:
        return pick(rng, wordings.DRAW).format(world.caption(scene)), ()
    if kind < 0.7:
        return pick(rng, wordings.FILM).format(world.clip_caption(world.random_clip(rng, held_out=True))), ()
    if kind < 0.85:
        return pick(rng, wordings.SAY).format(world.caption(scene)), ()
    if kind < 0.9:
        return pick(rng, pick(rng, wordings.TALK)[0]), ()
    return pick(rng, wordings.SEE), (Picture(world.draw(scene, rng)),)


def aloud(rng: np.random.Generator, count: int) -> list[Question]:
    """Say this held-out sentence, in each of Primer's voices in turn."""
    asked = []
    for index in range(count):
        words = world.caption(world.random_scene(rng, held_out=True))
        speaker = voices.SPEAKERS[index % len(voices.SPEAKERS)]
        asked.append(
            Question((pick(rng, wordings.SAY).format(words),), words, PICTURE_TEMPERATURE, speaker.name, ALOUD)
        )
    return asked


def clips_shown(rng: np.random.Generator, count: int) -> list[Question]:
    """What moves in this clip? Held-out clips, each motion as often."""
    clips = [_clip(rng, index) for index in range(count)]
    asked = []
    for clip in clips:
        film = Film(world.animate(clip, rng)[0])
        asked.append(Question((film, pick(rng, wordings.WATCH)), clip, outputs=TEXT, form=forms.CLIP))
    return asked


def clips_asked(rng: np.random.Generator, count: int) -> list[Question]:
    """Make this held-out clip, each motion as often."""
    clips = [_clip(rng, index) for index in range(count)]
    requests = [pick(rng, wordings.FILM).format(world.clip_caption(clip)) for clip in clips]
    return [Question((words,), clip, PICTURE_TEMPERATURE) for words, clip in zip(requests, clips, strict=True)]


def _clip(rng: np.random.Generator, index: int) -> Clip:
    motion = tuple(world.MOTIONS)[index % len(world.MOTIONS)]
    while (clip := world.random_clip(rng, held_out=True)).motion != motion:
        pass
    return clip


def tones_shown(rng: np.random.Generator, count: int) -> list[Question]:
    """Which note on which instrument is this?"""
    asked = []
    for _ in range(count):
        tone = _tone(rng)
        heard = sounds.tone(tone.note, tone.timbre, rng.uniform(0.5, 1.0), rng)
        sound = Sound(voices.room(heard, rng, ROOM, shift=False))
        asked.append(Question((sound, pick(rng, wordings.LISTEN)), tone, outputs=TEXT, form=forms.TONE))
    return asked


def tones_asked(rng: np.random.Generator, count: int) -> list[Question]:
    """Play this note."""
    tones = [_tone(rng) for _ in range(count)]
    return [Question((pick(rng, wordings.PLAY).format(tone.words),), tone, PICTURE_TEMPERATURE) for tone in tones]


def _tone(rng: np.random.Generator) -> Tone:
    return Tone(pick(rng, tuple(sounds.NOTES)), pick(rng, sounds.TIMBRES))


def effects_heard(rng: np.random.Generator, count: int) -> list[Question]:
    """Which thing sounds like this?"""
    asked = []
    for heard in _effects(count):
        sound = Sound(voices.room(effects.effect(heard.name, rng), rng, ROOM, shift=False))
        asked.append(Question((sound, pick(rng, wordings.WHAT_SOUNDS)), heard, outputs=TEXT, form=forms.EFFECT))
    return asked


def effects_asked(rng: np.random.Generator, count: int) -> list[Question]:
    """What does it sound like?"""
    requests = [(pick(rng, wordings.SOUND_OF).format(wanted.words), wanted) for wanted in _effects(count)]
    return [Question((words,), wanted, PICTURE_TEMPERATURE) for words, wanted in requests]


def _effects(count: int) -> list[Effect]:
    """Each as often."""
    return [Effect(tuple(effects.EFFECTS)[index % len(effects.EFFECTS)]) for index in range(count)]


def sums(rng: np.random.Generator, count: int) -> list[Question]:
    """Sums and differences up to twenty, by turns in words and in figures; the truth is the whole sentence."""
    asked = []
    for index in range(count):
        (words,), answer = dialogues.arithmetic(rng)
        while any(letter.isdigit() for letter in words) != bool(index % 2):
            (words,), answer = dialogues.arithmetic(rng)
        asked.append(Question((words,), answer, outputs=TEXT))
    return asked


def in_and_out(rng: np.random.Generator, count: int) -> list[Question]:
    """By turns a question that has no answer in the book (truth: the honest reply) and one that has (truth: empty).

    Three in four of the first kind are words, one is a picture of nothing known.
    """
    asked = []
    for index in range(count):
        if index % 8 == 6:
            parts = (Picture(world.unknown_picture(rng)), pick(rng, wordings.SEE))
        elif index % 2 == 0:
            parts = (outside.question(rng, for_exam=True),)
        else:
            parts = _inside(rng)
        asked.append(Question(parts, "" if index % 2 else outside.ANSWER))
    return asked


def _inside(rng: np.random.Generator) -> tuple[str | Picture, ...]:
    """Something that Primer can do."""
    scene, kind = world.random_scene(rng, held_out=True), rng.integers(4)
    if kind == 0:
        return (pick(rng, wordings.DRAW).format(world.caption(scene)),)
    if kind == 1:
        return dialogues.arithmetic(rng)[0]
    if kind == 2:
        return (pick(rng, pick(rng, wordings.TALK)[0]),)
    return Picture(world.draw(scene, rng)), pick(rng, wordings.SEE)
