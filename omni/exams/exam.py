"""Running the exam on one engine: asks what is not answered yet, and makes scores of the marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from omni.engine import Engine
from omni.exams import measures
from omni.exams.judging import Judge, Marks, retrieval
from omni.exams.parts import PART_OF, PARTS, Part, figure_of
from omni.exams.probes import Probes
from omni.exams.rows import GOALS, Score
from omni.exams.sitting import Record, Sitting
from omni.exams.student import Student


@dataclass(frozen=True)
class Step:
    """One more item of a part is answered."""

    part: str
    index: int


@dataclass
class Exam:
    """A student and a sitting that may have begun before. State: in the sitting, the galleries that the judge read."""

    student: Student
    sitting: Sitting
    probes: Probes

    def __post_init__(self) -> None:
        self.judge = Judge(self.probes, self.student)

    def sit(self, parts: Iterable[str], turn: int = 0, turns: int = 1) -> Iterator[Step]:
        """Answer what is not answered yet of ``parts``; of ``turns`` processes each takes the items of its turn."""
        about = self.sitting.about
        for name in parts:
            part, known = PARTS[name], self.sitting.answered(name)
            due = [index for index in range(turn, count_of(part, about.count), turns) if index not in known]
            items = part.ask(about.seed, count_of(part, about.count)) if due else []
            for index in due:
                yield self._answer(name, part, items, index)

    def _answer(self, name: str, part: Part, items: list, index: int) -> Step:
        item = items[index]
        if part.silent:
            self.sitting.add(name, index, retrieval(self.judge, index, items), (), ())
            return Step(name, index)
        seed = self.sitting.about.seed + index
        answers = [self.student.answer(question, seed, part.listen_only) for question in item]
        marks: Marks = part.judge(self.judge, item, answers)
        if part.times and (seconds := getattr(answers[0].usage, part.times[1])) is not None:
            marks[part.times[0]] = (seconds,)
        self.sitting.add(name, index, marks, item, answers)
        return Step(name, index)


def count_of(part: Part, count: int) -> int:
    """How many items of a part an exam of ``count`` questions has."""
    return min(count, part.most or count)


def missing(engine: Engine, is_primer: bool) -> dict[str, str]:
    """Why some parts are not asked of an engine, in a few words each."""
    able, reasons = engine.capabilities, {}
    for name, part in PARTS.items():
        if part.of_primer and not is_primer:
            reasons[name] = "is about Primer's own book or weights"
        elif lacks := part.takes - able.inputs:
            reasons[name] = f"{engine.name} takes no {min(lacks)}"
        elif lacks := part.gives - able.outputs:
            reasons[name] = f"{engine.name} gives no {min(lacks)}"
    return reasons


def finished(sitting: Sitting, name: str) -> bool:
    """Whether all of a part is answered."""
    return len(sitting.answered(name)) >= count_of(PARTS[name], sitting.about.count)


def marks_of(records: dict[int, Record], measure: str) -> np.ndarray:
    """(N, K) marks of one measure in the order of the questions; (0, 0) where none has it."""
    marks = [records[index].marks[measure] for index in sorted(records) if measure in records[index].marks]
    return np.array(marks, np.float64) if marks else np.zeros((0, 0))


def scores(sitting: Sitting, part: str) -> list[Score]:
    """The scores of a part from what is answered."""
    records = sitting.answered(part)
    rows = [row for row in GOALS if PART_OF.get(row) == part]
    return [_score(sitting, records, row) for row in rows if len(marks_of(records, row))]


def _score(sitting: Sitting, records: dict[int, Record], row: str) -> Score:
    figure, marks = figure_of(row), marks_of(records, row)
    chance = figure.chance
    if callable(chance):
        part = PARTS[PART_OF[row]]
        chance = chance(part.ask(sitting.about.seed, count_of(part, sitting.about.count)))
    best = marks_of(records, f"{row}/ceiling")
    ceiling = figure.statistic(best) if len(best) else None
    low, high = measures.interval(figure.statistic, marks)
    return Score(row, figure.statistic(marks), len(marks), chance, ceiling, low, high)


def details(sitting: Sitting, row: str) -> dict[str, float]:
    """What a row is made of, such as a route, each with its figure."""
    records = sitting.answered(PART_OF[row])
    names = sorted({name for record in records.values() for name in record.marks if name.startswith(f"{row}: ")})
    statistic = measures.median if row == "sync_ms" else measures.share
    return {name.partition(": ")[2]: statistic(marks_of(records, name)) for name in names}


def compare(one: Sitting, other: Sitting, row: str) -> measures.Difference | None:
    """How much higher ``one`` stands in a row, over the questions that both answered; None where there are none."""
    first, second = (sitting.answered(PART_OF[row]) for sitting in (one, other))
    both = [index for index in first if index in second and all(row in known[index].marks for known in (first, second))]
    if not both or one.about.seed != other.about.seed:
        return None
    sides = [marks_of({index: known[index] for index in both}, row) for known in (first, second)]
    return measures.difference(figure_of(row).statistic, *sides)


DROP_ROWS = ("caption", "picture_object", "wer_trained", "motion_named")


def nf4_drop(shipped: Sitting, exact: Sitting) -> Score:
    """What shipping in 4 bits costs: the worst of DROP_ROWS, in points, the same questions asked of both."""
    drops = {row: compare(exact, shipped, row) for row in DROP_ROWS}
    sign = {row: -1 if GOALS[row][1] == "lower" else 1 for row in DROP_ROWS}
    worst = max(drops, key=lambda row: sign[row] * drops[row].value)
    ends = sorted((sign[worst] * drops[worst].low, sign[worst] * drops[worst].high))
    return Score("nf4_drop", sign[worst] * drops[worst].value, shipped.about.count, None, None, *ends)
