"""Measured figures as rows, and the tables that documents show of them: ``python -m omni.figures``.

The exam keeps its rows in exam.json beside the weights, a benchmark in omni/bench/results/NAME.json. A document says
where a table belongs: between ``<!-- figures:NAME -->`` and ``<!-- /figures -->``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "omni/primer/weights/README.md", "omni/bench/README.md")
EXAM = Path("omni/primer/weights/exam.json")
RESULTS = Path("omni/bench/results")
_BLOCK = re.compile(r"(<!-- figures:([\w-]+) -->\n).*?(<!-- /figures -->)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One figure: its value and goal in ``unit``, how many measurements it rests on, chance and ceiling if any.

    ``low`` and ``high`` are the ends of its 95% interval, None where it has none.
    """

    name: str
    value: float
    unit: str
    goal: float | None
    better: Literal["higher", "lower"]
    n: int
    chance: float | None
    ceiling: float | None
    machine: str
    command: str
    low: float | None = None
    high: float | None = None

    @property
    def missed(self) -> bool:
        """Whether the value is on the wrong side of the goal; without a goal nothing is missed."""
        if self.goal is None:
            return False
        return self.value < self.goal if self.better == "higher" else self.value > self.goal

    @property
    def target(self) -> str:
        """The goal as a condition, empty where there is none."""
        return "" if self.goal is None else f"{'≥' if self.better == 'higher' else '≤'} {self.goal:g}"


def machine() -> str:
    """The processor and how many of its cores may be used."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        model = next((value.strip() for key, _, value in lines if key.strip() == "model name"), model)
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def read_rows(path: Path) -> list[Row]:
    """The rows in a file; none where it is not there yet."""
    return [Row(**row) for row in json.loads(path.read_text())["rows"]] if path.exists() else []


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write ``rows`` under a temporary name and rename it, so that a reader never finds half a file."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"rows": [_plain(row) for row in rows]}, indent=1) + "\n")
    partial.replace(path)


def _plain(row: Row) -> dict:
    """A row for JSON; an interval that it has not is not told."""
    return {name: value for name, value in asdict(row).items() if value is not None or name not in ("low", "high")}


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table, missed goals marked, and below it how they were measured."""
    if not rows:
        return "Not measured yet.\n"
    machines = sorted({row.machine for row in rows})
    commands = sorted({f"`{row.command.partition(' --')[0]}`" for row in rows})
    return "\n".join([
        "| figure | value | goal | | n | chance | ceiling |", "|---|---|---|---|---|---|---|", *map(_line, rows), "",
        f"Measured on {'; '.join(machines)} with {', '.join(commands)}.", "",
    ])  # fmt: skip


def _line(row: Row) -> str:
    mark = "" if row.goal is None else "missed" if row.missed else "met"
    rest = ("" if value is None else f"{value:g}" for value in (row.n, row.chance, row.ceiling))
    span = "" if row.low is None else f" ({row.low:g} to {row.high:g})"
    return f"| `{row.name}` | {row.value:g} {row.unit}{span} | {row.target} | {mark} | {' | '.join(rest)} |"


def filled(text: str, root: Path = ROOT) -> str:
    """A document with all of its tables made anew."""

    def block(found: re.Match) -> str:
        opening, name, closing = found.groups()
        if name == "memory":
            return opening + _memory() + closing
        return opening + table(read_rows(root / (EXAM if name == "exam" else RESULTS / f"{name}.json"))) + closing

    return _BLOCK.sub(block, text)


def _memory() -> str:
    from omni.experts.plan import cards_table  # here, since it brings torch along

    return cards_table()


def main(words: list[str] | None = None, root: Path = ROOT) -> int:
    """Write the tables; with ``--check`` only say which documents are out of date, as the exit status too."""
    parser = argparse.ArgumentParser(prog="python -m omni.figures", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a table is out of date")
    check = parser.parse_args(words).check
    stale = []
    for path in (root / name for name in DOCUMENTS):
        if path.exists() and (new := filled(old := path.read_text(), root)) != old:
            stale.append(path.relative_to(root))
            if not check:
                path.write_text(new)
    for path in stale:
        print(f"{path} is out of date; run make figures." if check else f"{path} brought up to date.")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
