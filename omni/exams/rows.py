"""The rows of exam.json: what each figure is called, its goal, and how the rows of several runs come together."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from omni.figures import Row, machine, read_rows, write_rows

FILE = "exam.json"
GOALS: dict[str, tuple[float, str]] = {  # goal and which way is better
    "caption": (80, "higher"),
    "picture_object": (75, "higher"),
    "picture_position": (88, "higher"),
    "picture_background": (95, "higher"),
    "picture_count": (80, "higher"),
    "picture_all": (65, "higher"),
    "picture_heldout_all": (45, "higher"),
    "picture_qa": (88, "higher"),
    "wer_trained": (25, "lower"),
    "wer_heldout": (25, "lower"),
    "speech_roundtrip_wer": (40, "lower"),
    "voicing": (75, "higher"),
    "motion_named": (70, "higher"),
    "motion_generated": (55, "higher"),
    "tone_named": (85, "higher"),
    "tone_generated": (85, "higher"),
    "outside": (85, "higher"),
    "nf4_drop": (2, "lower"),
}


@dataclass(frozen=True)
class Score:
    """A measured figure in percent, with how many questions it rests on and, where they apply, chance and ceiling."""

    name: str
    value: float
    n: int
    chance: float | None = None
    ceiling: float | None = None


def row(score: Score, command: str) -> Row:
    """A score with its goal, measured on this machine by ``command``."""
    goal, better = GOALS[score.name]
    unit = "points" if score.name == "nf4_drop" else "%"
    rounded = (None if value is None else round(value, 1) for value in (score.chance, score.ceiling))
    return Row(score.name, round(score.value, 1), unit, goal, better, score.n, *rounded, machine(), command)


def keep(rows: Iterable[Row], path: Path) -> None:
    """Put ``rows`` into the file at ``path``, in the order of GOALS; other rows stay. Several exams may run at once."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        known = {one.name: one for one in (*read_rows(path), *rows)}
        write_rows(path, [known[name] for name in GOALS if name in known])
    finally:
        os.close(folder)


def line(one: Row) -> str:
    """A row for the terminal."""
    mark = "missed" if one.missed else "met"
    return f"{one.name:22} {one.value:6.1f} {one.unit:6} goal {one.target:5} {mark:6} n={one.n}"
