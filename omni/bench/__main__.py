"""``make bench``: measure Primer and write ``omni/bench/results/primer.json``."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from omni.bench import primer
from omni.engines.primer import WEIGHTS
from omni.figures import Row, machine, write_rows

log = logging.getLogger(__name__)
RESULTS = Path(__file__).parent / "results"
FIGURES = {  # unit, goal, better
    "step_overhead": ("x", 2.0, "lower"),
    "inside_overhead": ("%", 2.0, "lower"),
    "speech_realtime": ("x", 2.0, "higher"),
    "first_text_s": ("s", None, "lower"),
    "first_speech_s": ("s", None, "lower"),
    "picture_s": ("s", None, "lower"),
    "clip_s": ("s", None, "lower"),
    "peak_memory_mb": ("MB", None, "lower"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the model")
    parser.add_argument("--repeats", type=int, default=7, help="replies of each kind; the median counts")
    parser.add_argument("--out", type=Path, default=RESULTS / "primer.json")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.info("load before: %s on %d cores", " ".join(f"{one:.2f}" for one in os.getloadavg()), os.cpu_count())
    measured = primer.measure(arguments.weights, arguments.repeats)
    rows = []
    for name, value in measured.items():
        unit, goal, better = FIGURES[name]
        n = {"step_overhead": primer.ROUNDS, "inside_overhead": primer.PAIRS}.get(name, arguments.repeats)
        rows.append(Row(name, round(value, 2), unit, goal, better, n, None, None, machine(), "make bench"))
        log.info("%-16s %8.2f %s", name, value, unit)
    log.info("load after: %s", " ".join(f"{one:.2f}" for one in os.getloadavg()))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
