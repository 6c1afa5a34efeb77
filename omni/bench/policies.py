"""How well each policy keeps the right experts: replayed on recorded and on made-up routing, against Belady's optimum.

``python -m omni.bench.policies``; rows in ``omni/bench/results/policies.json``. The recorded trace is Primer's own,
token by token, over replies of each kind; the made-up ones have the shape of Qwen3-30B-A3B's layers, a third of them.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from omni.bench import primer
from omni.engines.primer import PrimerEngine
from omni.experts.policy import DEFAULT, POLICIES, Trace, belady, make_policy, replay, zipf_trace
from omni.figures import Row, machine, write_rows

log = logging.getLogger(__name__)
RESULTS = Path(__file__).parent / "results" / "policies.json"
COMMAND = "python -m omni.bench.policies"
SHARES = (0.25, 0.5)  # of all experts, in memory
MADE_UP = {"uniform": (0.0, 0.0), "zipf": (1.0, 0.3)}  # skew, and how many experts a token takes over from the last
LAYERS, EXPERTS, TOP_K, STEPS = 16, 128, 8, 200


def recorded(repeats: int = 3) -> tuple[Trace, int, int]:
    """Primer's routing over replies of every kind, one after the other: the trace, its layers, its experts."""
    engine = PrimerEngine.open("cpu")
    [held] = engine.experts.pools
    held.routing.open()
    for name in primer.REPLIES:
        list(primer.replies(engine, name, repeats))
    steps = np.concatenate(held.routing.take()).tolist()
    trace = [[(layer, expert) for expert in chosen] for step in steps for layer, chosen in enumerate(step)]
    return trace, held.stats.layers, held.stats.layers * held.stats.experts


def compared(trace: Trace, layers: int, capacity: int) -> dict[str, float]:
    """Hit rates in percent by policy, and Belady's."""
    rates = {name: replay(trace, capacity, make_policy(name, layers)).rate for name in POLICIES}
    return {name: 100 * rate for name, rate in {**rates, "belady": belady(trace, capacity).rate}.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    traces = {"recorded": recorded()}
    for name, (skew, stay) in MADE_UP.items():
        trace = list(zipf_trace(np.random.default_rng(0), STEPS, LAYERS, EXPERTS, TOP_K, skew, stay))
        traces[name] = (trace, LAYERS, LAYERS * EXPERTS)
    rows = []
    for name, (trace, layers, experts) in traces.items():
        for share in SHARES:
            rates = compared(trace, layers, int(share * experts))
            log.info("%-9s %2.0f%% in memory: %s", name, 100 * share, rates)
            rows += list(rows_of(f"{name}_{100 * share:.0f}", rates, len(trace)))
    write_rows(arguments.out, rows)


def rows_of(case: str, rates: dict[str, float], n: int) -> Iterator[Row]:
    """The share of Belady's hits that the default policy has, then the hit rate of every policy."""
    goal = 85.0 if case.startswith("recorded") else None
    figures = {f"vs_belady_{case}": 100 * rates[DEFAULT] / rates["belady"]}
    figures |= {f"hits_{policy}_{case}": rate for policy, rate in rates.items()}
    for name, value in figures.items():
        aim = goal if name.startswith("vs_") else None
        yield Row(name, round(value, 1), "%", aim, "higher", n, None, None, machine(), COMMAND)


if __name__ == "__main__":
    main()
