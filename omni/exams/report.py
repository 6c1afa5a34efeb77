"""The report of a sitting as one page that needs nothing else: figures, what they are made of, answers to look at."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape

from omni.exams.exam import compare, count_of, details, scores
from omni.exams.measures import Difference
from omni.exams.parts import PARTS
from omni.exams.quick import PAGE
from omni.exams.rows import GOALS, WHAT, row
from omni.exams.sitting import Record, Sitting
from omni.figures import Row, machine

ASSETS = Path(__file__).parent / "assets"
KINDS = {".png": "image/png", ".wav": "audio/wav", ".mp4": "video/mp4"}


@dataclass(frozen=True)
class Line:
    """A figure as it is drawn: places on a bar of 0..100, None where there is nothing to draw."""

    row: Row
    what: str
    details: dict[str, str]
    difference: Difference | None
    places: dict[str, float]


def write_report(sitting: Sitting, reasons: dict[str, str], against: Sitting | None = None) -> Path:
    """Write the page into the folder of the sitting."""
    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=select_autoescape(), trim_blocks=True)
    page = environment.get_template("report.html").render(
        about=sitting.about,
        against=against.about if against else None,
        machine=machine(),
        lines=[line for part in PARTS for line in _lines(sitting, part, against)],
        reasons=reasons,
        parts=[(name, cards) for name in PARTS if (cards := _cards(sitting, name))],
        progress={
            name: (len(sitting.answered(name)), count_of(part, sitting.about.count)) for name, part in PARTS.items()
        },
    )
    path = sitting.folder / PAGE
    path.write_text(page)
    return path


def _lines(sitting: Sitting, part: str, against: Sitting | None) -> list[Line]:
    lines = []
    for score in scores(sitting, part):
        made = row(score, "")
        parts = {name: f"{value:.0f}" for name, value in details(sitting, made.name).items()}
        difference = compare(sitting, against, made.name) if against else None
        lines.append(Line(made, WHAT[made.name], parts, difference, _places(made)))
    return lines


def _places(one: Row) -> dict[str, float]:
    """Where on a bar the value, its interval, goal, chance and ceiling stand, in percent of its length."""
    known = {"value": one.value, "low": one.low, "high": one.high, "goal": one.goal,
             "chance": one.chance, "ceiling": one.ceiling}  # fmt: skip
    known = {name: value for name, value in known.items() if value is not None}
    full = 100.0 if one.unit in ("%", "points") and GOALS[one.name][1] == "higher" else max(1e-9, *known.values())
    return {name: min(100.0, max(0.0, 100 * value / full)) for name, value in known.items()}


def _cards(sitting: Sitting, part: str) -> list[dict]:
    """The answers that were kept with their media, in the order of the questions."""
    records = sitting.answered(part)
    return [_card(sitting, records[index]) for index in sorted(records) if _is_kept(records[index])]


def _is_kept(record: Record) -> bool:
    return any("made" in one for one in record.asked)


def _card(sitting: Sitting, record: Record) -> dict:
    marks = {name: mark for name, mark in record.marks.items() if "/" not in name and ":" not in name}
    wrong = any(mark == [0.0, 1.0] for mark in marks.values())
    asked = [
        one
        | {
            side: [_embedded(sitting.folder / "media" / name) for name in one.get(side, [])]
            for side in ("sent", "made")
        }
        for one in record.asked
    ]
    return {"index": record.index, "wrong": wrong, "marks": marks, "asked": asked}


def _embedded(path: Path) -> dict[str, str]:
    """A medium as it stands in the page; one that was deleted is left empty."""
    kind = KINDS[path.suffix]
    data = base64.b64encode(path.read_bytes()).decode() if path.exists() else ""
    return {"kind": kind.partition("/")[0], "source": f"data:{kind};base64,{data}"}
