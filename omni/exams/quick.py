"""The exam's quick form on an engine that is open already: what the page's examiner does (see omni.examiner).

Judges and model library are imported when they are needed: a page that nobody is examined on opens without them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from omni.engine import Engine, bare
from omni.examiner import Difference, Figure, Prospect, Report, Standing
from omni.exams import about as abouts
from omni.exams import rows
from omni.exams.about import About
from omni.figures import EXAM, ROOT, read_rows
from omni.settings import Settings

COUNT = 10  # questions a part
FEWEST = 5  # questions in common; an interval drawn from fewer says nothing
EARLIER = 5  # exams of an engine that stay when it is examined anew
PAGE = "report.html"
SHIPPED = "shipped"
ELSEWHERE = "takes a minute in one piece: left to the whole exam, make exam"
NO_LIBRARY = "The exam judges with {}, which is not installed here; please install what requirements.txt lists."


@dataclass(frozen=True)
class QuickExam:
    """Examines with ``count`` questions a part; reports stand where the command keeps its own."""

    settings: Settings
    count: int = COUNT

    def prospect(self, engine: Engine) -> Prospect:
        """See omni.examiner.Examiner."""
        try:
            from omni.exams.opening import absent
        except ModuleNotFoundError as error:
            return Prospect(lacks=NO_LIBRARY.format(error.name))
        if lack := absent():
            return Prospect(lacks=lack)
        from omni.exams.exam import count_of
        from omni.exams.parts import PART_OF, PARTS

        about, reasons = self._about(engine), _reasons(engine)
        answered = _answered(self._folder(about))
        counts = {name: count_of(part, self.count) for name, part in PARTS.items() if name not in reasons}
        skipped = {row: reasons[part] for row, part in PART_OF.items() if part in reasons}
        done = sum(min(count, answered.get(name, 0)) for name, count in counts.items())
        return Prospect(about.label, done, sum(counts.values()), skipped)

    def reports(self) -> list[Report]:
        """See omni.examiner.Examiner. First the shipped Primer's."""
        shipped = Report(SHIPPED, "Primer", "as shipped", None, "", False, _figures(ROOT / EXAM))
        files = sorted((self.settings.root / "exams").glob(f"*/{rows.FILE}"), key=lambda path: path.stat().st_mtime)
        kept = (_report(path) for path in files)
        return [one for one in (shipped, *kept) if one is not None and one.figures]

    def differences(self, name: str) -> list[Difference]:
        """See omni.examiner.Examiner."""
        own = self.settings.root / "exams" / name
        folders = (path.parent for path in own.parent.glob(f"*/{rows.FILE}"))
        pairs = [(own, other, _stamps(own, other)) for other in folders if _differ(own, other)]
        return [one for pair in pairs for one in _differences(*pair)]

    def sit(self, engine: Engine, anew: bool) -> Iterator[Standing]:
        """See omni.examiner.Examiner."""
        from omni.engines.teams import disband
        from omni.exams.exam import Exam, scores
        from omni.exams.opening import student_of
        from omni.exams.parts import PARTS
        from omni.exams.probes import Probes
        from omni.exams.report import write_report
        from omni.exams.sitting import Sitting

        about, reasons = self._about(engine), _reasons(engine)
        folder = self._folder(about)
        if anew and folder.exists():
            _set_aside(folder)
        sitting = Sitting(folder, about)
        exam = Exam(student_of(engine), sitting, Probes())
        parts = [name for name in PARTS if name not in reasons]
        command = f"exam tab --engine {about.engine} --seed {about.seed} --count {about.count}"
        answered = sum(len(sitting.answered(name)) for name in parts)
        try:
            for name in parts:
                yield Standing(answered, name)
                with closing(exam.sit([name])) as steps:
                    for _ in steps:
                        disband()  # replies are made in threads of their own
                        answered += 1
                        yield Standing(answered, name)
                rows.keep([rows.row(one, command) for one in scores(sitting, name)], folder / rows.FILE)
                yield Standing(answered, name, complete=True)
        finally:
            write_report(sitting, reasons)

    def page(self, name: str) -> Path | None:
        """See omni.examiner.Examiner."""
        return next(
            (path for path in (self.settings.root / "exams").glob(f"*/{PAGE}") if path.parent.name == name), None
        )

    def _about(self, engine: Engine) -> About:
        from omni.exams.opening import fingerprint
        from omni.exams.parts import SEED

        return About(self.settings.engine, fingerprint(self.settings) or engine.name, SEED, self.count)

    def _folder(self, about: About) -> Path:
        return self.settings.root / "exams" / about.label


def _set_aside(folder: Path) -> None:
    """Keep an exam under a name of its own; of those that were kept so before, the oldest go."""
    folder.rename(folder.with_name(f"{folder.name}-until-{datetime.now():%Y%m%d-%H%M%S-%f}"))
    for old in sorted(folder.parent.glob(f"{folder.name}-until-*"))[:-EARLIER]:
        shutil.rmtree(old, ignore_errors=True)


def _reasons(engine: Engine) -> dict[str, str]:
    """Why some parts are not asked."""
    from omni.engines.primer import PrimerEngine
    from omni.exams.exam import missing
    from omni.exams.parts import PARTS

    silent = {name: ELSEWHERE for name, part in PARTS.items() if part.silent}
    return silent | missing(engine, isinstance(bare(engine), PrimerEngine))


def _answered(folder: Path) -> dict[str, int]:
    """How many items of each part are answered in a folder that may not be there."""
    from omni.exams.sitting import Sitting

    if not (folder / abouts.FILE).exists():
        return {}
    return {part: len(records) for part, records in Sitting.of(folder).records.items()}


def _report(path: Path) -> Report | None:
    """The report that stands beside the rows at ``path``; None where somebody spoiled the folder."""
    about = _about_of(path.parent)
    if about is None:
        return None
    try:
        figures = _figures(path)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    when = f"{datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M}"
    return Report(path.parent.name, about.engine, about.weights, about.count, when,
                  (path.parent / PAGE).exists(), figures)  # fmt: skip


def _about_of(folder: Path) -> About | None:
    """Whose exam a folder holds; None where somebody spoiled it."""
    try:
        return About(**json.loads((folder / abouts.FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _differ(own: Path, other: Path) -> bool:
    """Whether two folders hold the exams of two engines, or of two weights of one."""
    one, two = _about_of(own), _about_of(other)
    return one is not None and two is not None and (one.engine, one.weights) != (two.engine, two.weights)


def _stamps(*folders: Path) -> tuple[int, ...]:
    """Change whenever an answer is written."""
    return tuple(path.stat().st_mtime_ns for folder in folders for path in sorted(folder.glob("*.jsonl")))


@lru_cache(maxsize=64)  # a thousand draws a row
def _differences(own: Path, other: Path, _: tuple[int, ...]) -> tuple[Difference, ...]:
    """Of every row in which both answered FEWEST questions; the last argument tells a pair from what it was before."""
    from omni.exams.exam import compare
    from omni.exams.parts import PART_OF
    from omni.exams.sitting import Sitting

    one, two = Sitting.of(own), Sitting.of(other)
    found = {row: compare(one, two, row) for row in PART_OF}
    return tuple(
        Difference(other.name, row, *(round(end, _digits(row)) for end in (diff.value, diff.low, diff.high)), diff.n)
        for row, diff in found.items()
        if diff is not None and diff.n >= FEWEST
    )


def _digits(row: str) -> int:
    return rows.UNITS.get(row, ("%", 1))[1]


def _figures(path: Path) -> tuple[Figure, ...]:
    return tuple(
        Figure(one.name, rows.WHAT.get(one.name, ""), one.value, one.unit, one.goal, one.better, one.missed, one.n,
               one.chance, one.low, one.high)
        for one in read_rows(path)
    )  # fmt: skip
