"""The shape of what is said: what a user can send, and the plan of a dialogue.

A Dialogue says which parts the user sends and what Primer answers, in words, pictures, clips and sounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from omni.primer.training.world import Clip, Scene, article, caption, clip_caption


@dataclass(frozen=True)
class Said:
    """Words that the user speaks, in one of the voices that training listens to."""

    words: str


@dataclass(frozen=True)
class Tone:
    """One note on one instrument."""

    note: str
    timbre: str

    @property
    def words(self) -> str:
        return f"{article(self.note)} on a {self.timbre}"


@dataclass(frozen=True)
class Tune:
    """Some notes, one after the other, on one instrument."""

    notes: tuple[str, ...]
    timbre: str

    @property
    def words(self) -> str:
        return f"{' '.join(self.notes)} on a {self.timbre}"


@dataclass(frozen=True)
class Effect:
    """The sound of a thing of ``effects.EFFECTS``."""

    name: str

    @property
    def words(self) -> str:
        return article(self.name)


@dataclass(frozen=True)
class Unknown:
    """A picture from outside the book."""


@dataclass(frozen=True)
class Blank:
    """A picture, or a clip, of one colour of the book and nothing else."""

    background: str
    moving: bool = False


@dataclass(frozen=True)
class Silence:
    """A recording of a room in which nobody speaks."""

    words: ClassVar[str] = ""


Music = Tone | Tune | Effect
Sounding = Said | Music | Silence
Shown = str | Sounding | Scene | Clip | Unknown | Blank


@dataclass(frozen=True)
class Turn:
    """What the user sends and what Primer answers: words, and what it makes after them.

    A story goes on after that: ``then`` has more sentences, each with its picture. The reply of a turn that is
    ``given`` is not to be learnt: it follows from what is no longer in sight.
    """

    user: tuple[Shown, ...]
    reply: str
    made: Scene | Clip | Music | None = None
    spoken: bool = False
    then: tuple[tuple[str, Scene], ...] = ()
    given: bool = False


@dataclass(frozen=True)
class Dialogue:
    """Some turns, and the scene or clip whose first mention stands at their very start (for contrast)."""

    turns: tuple[Turn, ...]
    about: Scene | Clip | None = None

    @property
    def voiced(self) -> bool:
        """Whether anybody speaks in it."""
        return any(turn.spoken or any(isinstance(part, Said) for part in turn.user) for turn in self.turns)


def pick(rng: np.random.Generator, options):
    """One of a sequence, each as likely."""
    return options[int(rng.integers(len(options)))]


def here_is(scene: Scene) -> str:
    """What Primer says with a picture."""
    return f"Here {'are' if scene.count > 1 else 'is'} {caption(scene)}."


def here_is_a_clip(clip: Clip) -> str:
    """What Primer says with a clip."""
    return f"Here is a clip: {clip_caption(clip)}."


def sentence(words: str) -> str:
    """Words as a sentence: capital and full stop."""
    return words[0].upper() + words[1:] + "."
