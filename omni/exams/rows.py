"""The rows of exam.json: what each figure is called, its goal, and how the rows of several runs come together."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from omni.figures import Row, machine, read_rows, write_rows

FILE = "exam.json"
GOALS: dict[str, tuple[float | None, str]] = {  # goal and which way is better
    "caption": (92, "higher"),
    "picture_object": (88, "higher"),
    "picture_position": (88, "higher"),
    "picture_background": (95, "higher"),
    "picture_count": (80, "higher"),
    "picture_all": (65, "higher"),
    "picture_heldout_all": (45, "higher"),
    "picture_qa": (88, "higher"),
    "wer_trained": (10, "lower"),
    "wer_heldout": (25, "lower"),
    "speech_roundtrip_wer": (18, "lower"),
    "speech_text_cer": (0.12, "lower"),
    "voicing": (85, "higher"),
    "motion_named": (88, "higher"),
    "motion_generated": (75, "higher"),
    "sync_ms": (150, "lower"),
    "tone_named": (85, "higher"),
    "tone_generated": (85, "higher"),
    "effect_named": (85, "higher"),
    "effect_generated": (85, "higher"),
    "sums": (90, "higher"),
    "crossmodal_all": (65, "higher"),
    "crossmodal_spread": (20, "lower"),
    "conflict": (70, "higher"),
    "outside": (85, "higher"),
    "retrieval_r1": (70, "higher"),
    "nf4_drop": (2, "lower"),
    "first_text_s": (None, "lower"),
    "first_speech_s": (None, "lower"),
    "picture_s": (None, "lower"),
    "clip_s": (None, "lower"),
}
WHAT = {  # each row measures
    "caption": "A picture described: things, colours, place or relation, and background all right.",
    "picture_object": "A picture from words: exactly the things and colours asked for.",
    "picture_position": "A picture from words: each thing where it was to stand.",
    "picture_background": "A picture from words: the background's colour.",
    "picture_count": "A picture from words: as many things as asked for.",
    "picture_all": "A picture from words: the whole scene.",
    "picture_heldout_all": "The whole scene, in combinations that training left out.",
    "picture_qa": "A question about a picture, answered exactly.",
    "wer_trained": "Words misheard, in voices of the training.",
    "wer_heldout": "Words misheard, in voices that training never heard.",
    "speech_roundtrip_wer": "Words of a sentence to say that the Ear does not read back.",
    "speech_text_cer": "Characters of a spoken reply that differ from the same reply in writing, as the Ear reads it.",
    "voicing": "Frames of speech whose voice and pitch survive the codes; 0 where generated speech is a whisper.",
    "motion_named": "What happens in a clip, named.",
    "motion_generated": "A clip from words: the right motion by the right things.",
    "sync_ms": "How far the sound of an event stands from its picture in a generated clip, the middle of all.",
    "tone_named": "Note and timbre of a tone, named.",
    "tone_generated": "A tone within 50 cents of the note asked for.",
    "effect_named": "A thing named by its sound.",
    "effect_generated": "The sound of the thing asked for, told from those of all others.",
    "sums": "Sums and differences up to twenty, in words and in figures.",
    "crossmodal_all": "The same question by text, speech, picture and clip: right by all four.",
    "crossmodal_spread": "The same question: the best route less the worst.",
    "conflict": "Blank and conflicting inputs: says so, and does not where nothing is wrong.",
    "outside": "What is not in the book: says so, and does not where it is.",
    "retrieval_r1": "The same scene found first among a hundred in another modality.",
    "nf4_drop": "What four bits cost in the worst row.",
    "first_text_s": "Seconds to the first word about a picture, the middle of all.",
    "first_speech_s": "Seconds to the first sound of speech, the middle of all.",
    "picture_s": "Seconds to a picture, the middle of all.",
    "clip_s": "Seconds to a clip with its sound, the middle of all.",
}
UNITS = {  # and how many digits are told; percent and one where not named
    "speech_text_cer": ("of characters", 3), "sync_ms": ("ms", 0), "crossmodal_spread": ("points", 1),
    "nf4_drop": ("points", 1), "first_text_s": ("s", 2), "first_speech_s": ("s", 2), "picture_s": ("s", 2),
    "clip_s": ("s", 2),
}  # fmt: skip


@dataclass(frozen=True)
class Score:
    """A figure, how many questions it rests on, chance and ceiling where they apply, and its 95% interval."""

    name: str
    value: float
    n: int
    chance: float | None = None
    ceiling: float | None = None
    low: float | None = None
    high: float | None = None


def row(score: Score, command: str) -> Row:
    """A score with its goal, measured on this machine by ``command``."""
    goal, better = GOALS[score.name]
    unit, digits = UNITS.get(score.name, ("%", 1))
    value, chance, ceiling, low, high = (
        None if one is None else round(one, digits)
        for one in (score.value, score.chance, score.ceiling, score.low, score.high)
    )
    return Row(score.name, value, unit, goal, better, score.n, chance, ceiling, machine(), command, low, high)


def keep(rows: Iterable[Row], path: Path) -> None:
    """Put ``rows`` into the file at ``path``, in the order of GOALS. Several exams may run at once.

    Other rows stay, held against the goals of today.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        known = {one.name: one for one in (*read_rows(path), *rows)}
        write_rows(path, [replace(known[name], goal=GOALS[name][0]) for name in GOALS if name in known])
    finally:
        os.close(folder)


def line(one: Row) -> str:
    """A row for the terminal."""
    mark = "" if one.goal is None else "missed" if one.missed else "met"
    span = "" if one.low is None else f"{one.low:g} to {one.high:g}"
    return f"{one.name:22} {one.value:7g} {one.unit:13} {span:16} goal {one.target or '-':7} {mark:6} n={one.n}"
