"""Measure Primer as it is shipped: ``python -m omni.exams`` (``make exam``).

Writes its rows to exam.json beside the weights as they come; ``--only`` measures some rows and leaves the others.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import torch

from omni.errors import OmniError
from omni.exams import rows
from omni.exams.distant import DistantStudent
from omni.exams.exam import PART_OF, PARTS, Exam, nf4_drop
from omni.exams.probes import Probes
from omni.exams.rows import GOALS, Score
from omni.exams.student import Student
from omni.primer.training import voices, world

log = logging.getLogger(__name__)
WEIGHTS = Path(__file__).parent.parent / "primer" / "weights"
COUNT, QUICK = 200, 10


def main(words: list[str] | None = None) -> int:
    arguments = _parse(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    for chatty in ("httpx", "omni.media"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    if missing := absent():
        print(missing, file=sys.stderr)
        return 2
    try:
        student = distant(arguments) if arguments.engine == "remote" else Student.shipped(arguments.weights)
    except OmniError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError:
        log.exception("loading failed")
        print(f"There are no weights of Primer in {arguments.weights}.", file=sys.stderr)
        return 2
    probes = Probes()
    exam = Exam(student, probes, arguments.count, arguments.engine if arguments.engine == "remote" else Exam.name)
    for part in PARTS:
        wanted = [name for name in arguments.only if PART_OF.get(name, name) == part]
        if wanted:
            _report([one for one in exam.scores(part) if one.name in wanted], arguments)
    if "nf4_drop" in arguments.only and arguments.engine == "primer":
        if arguments.checkpoint is None or not arguments.checkpoint.exists():
            log.warning("nf4_drop is skipped: --checkpoint names no file with the 16-bit weights.")
        else:
            exact = Exam(Student.unshipped(arguments.weights, arguments.checkpoint), probes, arguments.count, "16-bit")
            _report([nf4_drop(exam, exact)], arguments)
    return 0


def distant(arguments: argparse.Namespace) -> DistantStudent:
    """A model on a server; its key is read from OMNI_REMOTE_KEY. Raises OmniError."""
    from omni.engines.remote.engine import RemoteEngine

    key = os.environ.get("OMNI_REMOTE_KEY", "")
    return DistantStudent(RemoteEngine.open(arguments.server, arguments.base_url, key, arguments.model))


def absent() -> str:
    """What the exam needs and does not find here, in one sentence, or nothing."""
    if not world.FONT.exists():
        return "The exam draws with the emoji font of the Debian package fonts-noto-color-emoji; please install it."
    if not voices.available():
        return "The exam speaks with the Debian package espeak-ng; please install it."
    return ""


def _report(scores: list[Score], arguments: argparse.Namespace) -> None:
    """Print the rows and, where the exam is a full one, keep them."""
    names = [one.name for one in scores]
    command = f"python -m omni.exams --only {','.join(names)} --count {arguments.count}"
    made = [rows.row(one, command) for one in scores]
    print("\n".join(map(rows.line, made)), flush=True)
    if arguments.out is not None:
        rows.keep(made, arguments.out)


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m omni.exams", description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("primer", "remote"), default="primer", help="who is examined")
    parser.add_argument("--server", default="openai", help="what the server of remote speaks")
    parser.add_argument("--base-url", default="", help="address of the server of remote")
    parser.add_argument("--model", default="", help="name of the model there; empty is the first")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with the shipped weights")
    parser.add_argument("--checkpoint", type=Path, help="training checkpoint with the 16-bit weights, for nf4_drop")
    parser.add_argument("--only", type=_names, default=list(GOALS), help="rows, separated by commas")
    parser.add_argument("--count", type=int, default=COUNT, help="questions a row")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} questions a row, nothing is written")
    parser.add_argument("--out", type=Path, help="file of the rows; exam.json beside the weights by default")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(words)
    if arguments.quick:
        arguments.count = QUICK
    elif arguments.out is None and arguments.engine == "primer":
        arguments.out = arguments.weights / rows.FILE
    return arguments


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(GOALS)):
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(unknown)}; there are {', '.join(GOALS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
