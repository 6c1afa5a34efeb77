"""Examine an engine: ``python -m omni.exams --engine primer`` (``make exam``).

Goes on where a killed exam stopped. Answers, rows and the report stand in a folder of their own; the rows of the
shipped Primer, asked the questions of its README, also in exam.json beside its weights.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from omni.errors import OmniError
from omni.exams import rows
from omni.exams.about import About
from omni.exams.exam import DROP_ROWS, compare, nf4_drop, scores
from omni.exams.opening import WEIGHTS, absent, fingerprint
from omni.exams.parts import PART_OF, PARTS, SEED
from omni.exams.quick import COUNT as QUICK
from omni.exams.report import write_report
from omni.exams.rows import GOALS
from omni.exams.running import Order, run
from omni.exams.sitting import Sitting
from omni.settings import Settings, read_settings

log = logging.getLogger(__name__)
COUNT = 200


def main(words: list[str] | None = None) -> int:
    arguments, settings = _parse(sys.argv[1:] if words is None else words)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", force=True)
    if lack := absent():
        print(lack, file=sys.stderr)
        return 2
    try:
        sitting, reasons = _examine(arguments, settings)
    except (OmniError, OSError) as error:
        log.info("the exam ended early", exc_info=True)
        print(error if isinstance(error, OmniError) else f"The exam stopped: {error}.", file=sys.stderr)
        return 2
    against = Sitting.of(arguments.against) if arguments.against else None
    for row in arguments.only if against else ():
        if row in PART_OF and (difference := compare(sitting, against, row)) is not None:
            mark = "differs" if difference.certain else "as before"
            print(f"{row:22} {difference.value:+.3g} ({difference.low:+.3g} to {difference.high:+.3g}) {mark}")
    print(f"The report is {write_report(sitting, reasons, against)}")
    return 0


def _examine(arguments: argparse.Namespace, settings: Settings) -> tuple[Sitting, dict[str, str]]:
    """Ask all that is to be asked, rows printed and kept as they come; why some parts were not asked."""
    order = _order(arguments, settings)
    sitting = Sitting(order.folder, order.about)
    wanted = [name for name in PARTS if name in {PART_OF.get(row) for row in arguments.only}]
    reasons = {}
    for news in run(order, wanted):
        if isinstance(news, dict):
            reasons = {name: reason for name, reason in news.items() if name in wanted}
        elif isinstance(news, str):
            sitting.read()
            _keep([one for one in scores(sitting, news) if one.name in arguments.only], arguments, sitting)
    if "nf4_drop" in arguments.only:
        _drop(arguments, settings, sitting)
    return sitting, reasons


def _drop(arguments: argparse.Namespace, settings: Settings, sitting: Sitting) -> None:
    """What four bits cost, against the 16-bit weights of a checkpoint."""
    if settings.engine != "primer" or arguments.checkpoint is None or not arguments.checkpoint.exists():
        print("nf4_drop is left out: --checkpoint names no file with Primer's 16-bit weights.", file=sys.stderr)
        return
    exact = _order(arguments, settings, arguments.checkpoint)
    for order in (_order(arguments, settings), exact):
        for _ in run(order, [PART_OF[row] for row in DROP_ROWS]):
            pass
    sitting.read()
    _keep([nf4_drop(sitting, Sitting(exact.folder, exact.about))], arguments, sitting)


def _keep(scored: list[rows.Score], arguments: argparse.Namespace, sitting: Sitting) -> None:
    names = ",".join(one.name for one in scored)
    command = f"python -m omni.exams --engine {sitting.about.engine} --seed {sitting.about.seed}"
    made = [rows.row(one, f"{command} --count {sitting.about.count} --only {names}") for one in scored]
    print("\n".join(map(rows.line, made)), flush=True)
    for path in filter(None, (sitting.folder / rows.FILE, arguments.out)):
        rows.keep(made, path)


def _order(arguments: argparse.Namespace, settings: Settings, checkpoint: Path | None = None) -> Order:
    weights = fingerprint(settings, arguments.weights, checkpoint)
    about = About(settings.engine, weights, arguments.seed, arguments.count)
    return Order(
        settings, about, settings.root / "exams" / about.label, arguments.weights, checkpoint,
        arguments.processes, arguments.threads,
    )  # fmt: skip


def _parse(words: list[str]) -> tuple[argparse.Namespace, Settings]:
    parser = argparse.ArgumentParser(
        prog="python -m omni.exams", description=__doc__.splitlines()[0], allow_abbrev=False,
        epilog="The engine is chosen with the flags of app.py: --engine, --model, --device, --memory, --root.",
    )  # fmt: skip
    parser.add_argument("--only", type=_names, default=list(GOALS), help="rows, separated by commas")
    parser.add_argument("--count", type=int, default=COUNT, help=f"questions a part ({COUNT})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} questions a part; exam.json stays as it is")
    parser.add_argument(
        "--seed", type=int, default=SEED, help=f"another number is an exam that nobody has seen ({SEED})"
    )
    parser.add_argument(
        "--processes", type=int, default=0, help="that answer side by side; 2 for Primer on a CPU, else 1"
    )
    parser.add_argument("--threads", type=int, default=0, help="of each process; 0 shares the cores")
    parser.add_argument("--against", type=Path, help="folder of another exam with the same seed, to be compared with")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with weights of Primer")
    parser.add_argument("--checkpoint", type=Path, help="training checkpoint with the 16-bit weights, for nf4_drop")
    parser.add_argument("--out", type=Path, help="one more file for the rows")
    arguments, rest = parser.parse_known_args(words)
    settings = read_settings(rest)
    cores = len(os.sched_getaffinity(0))
    primer = settings.engine == "primer"
    arguments.processes = arguments.processes or (min(2, cores) if primer and settings.device != "cuda" else 1)
    arguments.threads = arguments.threads or max(1, cores // arguments.processes)
    if arguments.quick:
        arguments.count = QUICK
    elif arguments.out is None and primer and arguments.seed == SEED and arguments.count >= COUNT:
        arguments.out = arguments.weights / rows.FILE
    return arguments, settings


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(GOALS)):
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(unknown)}; there are {', '.join(GOALS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
