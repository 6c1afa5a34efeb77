"""One sitting of the exam on disk: every answered question as a line, some of them with their media.

A folder holds ``sitting.json`` (whose exam it is) and ``*.jsonl``, one file for each process that answered. A process
may be killed at any time: what stands is what was written, and the exam goes on with the rest.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from omni import media
from omni.conversation import Text
from omni.errors import OmniError
from omni.exams import about as abouts
from omni.exams import crossing
from omni.exams.about import About
from omni.exams.judging import Marks
from omni.exams.questions import Film, Question, Sound
from omni.exams.student import RATE, SILENT, Answer, as_part
from omni.primer.training.turns import Effect, Tone
from omni.primer.training.world import Clip, Scene, caption, clip_caption

KEPT = 3  # answers of a part that are kept with their media whatever they are; as many again of those that are wrong


@dataclass(frozen=True)
class Record:
    """One item answered: its marks, and by question what was shown, true and said; media are files of the folder."""

    part: str
    index: int
    marks: dict[str, list[float]]
    asked: tuple[dict, ...] = ()


class Sitting:
    """State: the records so far by part and index, the file of this process, and how many wrong answers were kept."""

    def __init__(self, folder: Path, about: About):
        self.folder, self.about = folder, about
        self.folder.mkdir(parents=True, exist_ok=True)
        (folder / abouts.FILE).write_text(json.dumps(asdict(about), indent=1) + "\n")
        self.records: dict[str, dict[int, Record]] = {}
        self.wrong_kept: dict[str, int] = {}
        self.file = folder / f"{secrets.token_hex(4)}.jsonl"
        self.read()

    @classmethod
    def of(cls, folder: Path) -> Sitting:
        """A sitting that was begun before. Raises OmniError where there is none in ``folder``."""
        try:
            return cls(folder, About(**json.loads((folder / abouts.FILE).read_text())))
        except (OSError, ValueError, TypeError) as error:
            raise OmniError(f"There is no exam in {folder}; please name a folder with a {abouts.FILE}.") from error

    def read(self) -> None:
        """Take in what all processes have written; half a line is an answer that was not finished."""
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_text().splitlines():
                try:
                    record = Record(**json.loads(line))
                except ValueError:
                    continue
                self.records.setdefault(record.part, {})[record.index] = record

    def answered(self, part: str) -> dict[int, Record]:
        """The records of a part by index."""
        return self.records.get(part, {})

    def add(self, part: str, index: int, marks: Marks, item: Iterable[Question], answers: Iterable[Answer]) -> Record:
        """Keep an item. It stands on disk when this returns."""
        wrong = any(":" not in name and "/" not in name and mark == (0.0, 1.0) for name, mark in marks.items())
        shown = index < KEPT or (wrong and self.wrong_kept.get(part, 0) < KEPT)
        if shown and index >= KEPT:
            self.wrong_kept[part] = self.wrong_kept.get(part, 0) + 1
        asked = tuple(self._told(q, answer, shown) for q, answer in zip(item, answers, strict=True))
        record = Record(part, index, {name: list(map(float, mark)) for name, mark in marks.items()}, asked)
        with self.file.open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.setdefault(part, {})[index] = record
        return record

    def _told(self, question: Question, answer: Answer, shown: bool) -> dict:
        """One question and its answer in words, and where they are kept their media."""
        words = [part for part in question.parts if isinstance(part, str)]
        told = {"asked": " ".join(words), "truth": in_words(question.truth), "said": answer.words}
        told |= {"heard": answer.heard} if answer.heard else {}
        if shown:
            told["sent"] = [self._kept(part) for part in question.parts if not isinstance(part, str)]
            told["made"] = [self._kept(one) for one in made(answer)]
        return told

    def _kept(self, medium) -> str:
        """The name of a medium's file in the folder."""
        if isinstance(medium, Clipped):
            return media.write_video(
                medium.frames, 1 / medium.seconds, medium.track, RATE, self.folder / "media"
            ).path.name
        part = as_part(medium, self.folder / "media")
        return "" if isinstance(part, Text) else part.path.name


@dataclass(frozen=True)
class Clipped(Film):
    """A film that was made: its sound, and the seconds of a frame."""

    track: np.ndarray = None
    seconds: float = 0.25


def made(answer: Answer) -> list:
    """The media of an answer."""
    found: list = []
    if answer.picture is not None:
        found.append(crossing.Picture(answer.picture))
    if answer.frames is not None:
        track = SILENT if answer.track is None else answer.track
        found.append(Clipped(answer.frames, track, answer.frame_seconds))
    if answer.samples is not None and len(answer.samples):
        found.append(Sound(answer.samples))
    return found


def in_words(truth: Scene | Clip | Tone | Effect | str) -> str:
    """What is true, for people."""
    match truth:
        case Scene():
            return caption(truth)
        case Clip():
            return clip_caption(truth)
        case Tone() | Effect():
            return truth.words
    return truth
