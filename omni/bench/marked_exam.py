"""Whether marks cost Primer a point: the parts of its exam that judge what it makes, with and without them.

Both sittings judge the same replies, so that nothing but the mark can make a difference.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from PIL import Image as Pillow

from omni.engines.primer import WEIGHTS
from omni.exams.exam import Exam
from omni.exams.probes import Probes
from omni.exams.questions import Question
from omni.exams.student import Answer, Student
from omni.provenance.marks import Watermark

log = logging.getLogger(__name__)
PARTS = ("pictures", "pictures_heldout", "speech", "motion_generated", "tone_generated")
SHOWN, READ = 256, 64  # pixels: pictures are marked as they are shown, and read as Primer and its judges read them
RATE = 16_000
WEEK = 46


class Marked(Student):
    """A student whose work is handed in with marks in it. State: the replies of the one who made it."""

    def __init__(self, student: Student, mark: Watermark):
        super().__init__(student.model, student.tokenizers, student.max_tokens)
        self.mark = mark
        self.replies: dict[tuple, Answer] = {}

    def plain(self, question: Question, seed: int = 0, listen_only: bool = False) -> Answer:
        """The reply without a mark, thought out once."""
        key = (*question.parts, question.voice, question.temperature, seed, listen_only)
        if key not in self.replies:
            self.replies[key] = super().answer(question, seed, listen_only)
        return self.replies[key]

    def answer(self, question: Question, seed: int = 0, listen_only: bool = False) -> Answer:
        """The same reply with marks."""
        plain = self.plain(question, seed, listen_only)
        marked = Answer(plain.heard, plain.words)
        if plain.picture is not None:
            marked.picture = self._seen(plain.picture)
        if plain.frames is not None:
            marked.frames = np.stack([self._seen(frame) for frame in plain.frames])
        if plain.samples is not None:
            marked.samples = self.mark.voice(RATE, WEEK).push(plain.samples)
        return marked

    def _seen(self, pixels: np.ndarray) -> np.ndarray:
        large = np.asarray(Pillow.fromarray(pixels).resize((SHOWN, SHOWN), Pillow.Resampling.LANCZOS))
        marked = Pillow.fromarray(self.mark.mark_picture(large, WEEK))
        return np.asarray(marked.resize((READ, READ), Pillow.Resampling.BOX))


class Plain(Student):
    """The same student without marks."""

    def __init__(self, marked: Marked):
        super().__init__(marked.model, marked.tokenizers, marked.max_tokens)
        self.marked = marked

    def answer(self, question: Question, seed: int = 0, listen_only: bool = False) -> Answer:
        return self.marked.plain(question, seed, listen_only)


def measure(mark: Watermark, count: int, goal: float, add: Callable[..., None]) -> None:
    """The row ``exam_change``: the most that any row of the exam gets worse or better, in points."""
    marked, probes = Marked(Student.shipped(WEIGHTS), mark), Probes()
    sittings = Exam(Plain(marked), probes, count, "plain"), Exam(marked, probes, count, "marked")
    changes: dict[str, float] = {}
    for part in PARTS:
        before, after = (sitting.scores(part) for sitting in sittings)
        changes |= {one.name: other.value - one.value for one, other in zip(before, after, strict=True)}
    log.info("%s", ", ".join(f"{name} {change:+.1f}" for name, change in changes.items()))
    add("exam_change", max(map(abs, changes.values())), "points", goal, "lower", count)
