"""The protocol of whoever examines the engine that a page talks to.

The page knows this file and no exam: the figures of one, with their judges and their model library, are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from omni.engine import Engine


@dataclass(frozen=True)
class Figure:
    """What one measure came to, in ``unit``; goal, chance and interval are None where there is none."""

    name: str
    what: str  # is measured, in a sentence
    value: float
    unit: str
    goal: float | None
    better: Literal["higher", "lower"]
    missed: bool
    n: int
    chance: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Report:
    """The figures of one exam, by the name under which it is stored."""

    name: str
    engine: str
    weights: str  # which of the engine's
    count: int | None  # questions a part at most, None where it was not noted
    when: str  # its last figure was made, such as 2026-11-24 18:05; empty where it was not noted
    page: bool  # whether there is a page with answers to look at
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Difference:
    """How much higher a figure of one exam stands than that of another, over the ``n`` questions that both answered.

    With the 95% interval of the paired difference, in the figure's unit, where percent are points.
    """

    other: str  # by the name of its report
    figure: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Prospect:
    """What an exam of an engine would be: its name, how many questions it has and how many are answered already."""

    name: str = ""
    answered: int = 0
    questions: int = 0
    skipped: dict[str, str] = field(default_factory=dict)  # figures that it leaves out, and why in a few words
    lacks: str = ""  # what the host has to have first, in one sentence; then nothing else is known


@dataclass(frozen=True)
class Standing:
    """How far an exam has come: the part that is asked, and whether it is complete, so that there are new figures."""

    answered: int
    part: str
    complete: bool = False


class Examiner(Protocol):
    """Examines any engine, and keeps the reports."""

    def prospect(self, engine: Engine) -> Prospect:
        """What an exam of ``engine`` would be. May take seconds, since judges are brought in."""
        ...

    def reports(self) -> list[Report]:
        """All that is stored, the newest last."""
        ...

    def differences(self, name: str) -> list[Difference]:
        """Between the exam that is stored as ``name`` and those of other engines or weights, in the same questions."""
        ...

    def sit(self, engine: Engine, anew: bool) -> Iterator[Standing]:
        """Ask ``engine`` what it was not asked yet, or everything ``anew``; an earlier exam then stays stored.

        An answer stands on disk when it is told. What a reply of ``engine`` raises ends the exam. Raises OmniError.
        """
        ...

    def page(self, name: str) -> Path | None:
        """The page of a stored report, which needs nothing but itself; None where there is none."""
        ...
