"""The experts engine beside its peers: ``python -m omni.bench.experts``, rows in ``omni/bench/results/experts.json``.

Every arm is a process of its own (``omni.bench.peers``), with the same shape, threads and tokens. The arms take turns,
round after round; a figure is the median over the rounds of a ratio within one round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from omni.bench.peers.memory_limit import NoMemoryLimitError, evict, memory_limit, read_ahead_kb
from omni.bench.peers.shape import BF16_BYTES, Q4_0_BYTES, Shape
from omni.figures import ROOT, Row, machine, read_rows, write_rows

log = logging.getLogger(__name__)
RESULTS = Path(__file__).parent / "results" / "experts.json"
ALLOWANCE = {  # bytes of a limited process beside its weights: interpreter, libraries, activations, keys and values
    "transformers": 512 * 2**20,
    "llamacpp": 96 * 2**20,  # no torch there; one allowance for both would give llama.cpp room for more experts
}
Results = dict[str, dict]  # what the arms of one round answered, by name


@dataclass(frozen=True)
class Arm:
    """One process to measure: which arm of ``omni.bench.peers``, with what; ``limit`` bytes, files that start cold."""

    name: str
    program: str
    keywords: dict
    needs: tuple[str, ...] = ()  # files, by their names in Bench.write
    limit: int | None = None
    cold: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A row: its unit, its goal, how its value follows from the results of one round, and which way is better."""

    unit: str
    goal: float | None
    value: Callable[[Results, Shape], float]
    better: str = "higher"


def step(result: dict) -> float:
    """Median seconds of a token."""
    return statistics.median(result["seconds_per_token"])


def faster(peer: str, mine: str = "ours") -> Callable[[Results, Shape], float]:
    """How many times faster we are than a peer."""
    return lambda results, shape: step(results[peer]) / step(results[mine])


def fastest(*peers: str) -> Callable[[Results, Shape], float]:
    """How many times faster we are than the fastest of several peers, or ways to run one."""
    return lambda results, shape: min(step(results[peer]) for peer in peers) / step(results["ours"])


def bound(arm: str) -> Callable[[Results, Shape], float]:
    """Percent of an arm's step in which memory, read as fast as it can be, would have given the active experts."""
    return lambda results, shape: (
        100 * shape.active_expert_bytes() / (results["bandwidth"]["gb_s"] * 1e9) / step(results[arm])
    )


def load_peak_extra(results: Results, shape: Shape) -> float:
    """Anonymous megabytes that loading takes at its peak, beside the largest tensor of one expert."""
    tensor = 2 * shape.hidden * shape.inner * BF16_BYTES / 2**20
    return results["load"]["most_mb"] - results["load"]["before_mb"] - tensor


FIGURES = {
    "vs_accelerate": Figure("x", 20, faster("accelerate")),
    "vs_bnb_memory": Figure("x", 3.5, lambda all, _: all["bnb_stock"]["experts_bytes"] / all["ours"]["experts_bytes"]),
    "vs_bnb_speed": Figure("x", 3, fastest("bnb_stock", "bnb_parametrize")),
    "vs_bnb_stock_speed": Figure("x", None, faster("bnb_stock")),
    "vs_bnb_parametrize_speed": Figure("x", None, faster("bnb_parametrize")),
    "vs_llamacpp_resident": Figure("x", 0.8, fastest("llamacpp", "llamacpp_mapped")),
    "vs_llamacpp_quarter": Figure("x", 1.5, faster("llamacpp_quarter", "ours_quarter")),
    "bandwidth_bound": Figure("%", 30, bound("ours")),
    "conversion_speed": Figure(
        "%", 50, lambda all, _: 100 * all["convert"]["converted_gb_s"] / all["convert"]["quantised_gb_s"]
    ),
    "load_peak_extra_mb": Figure("MB", 64, load_peak_extra, "lower"),
    "vs_belady_drawn": Figure(
        "%", None, lambda all, _: 100 * all["ours_quarter"]["hit_rate"] / all["ours_quarter"]["belady_hit_rate"]
    ),
}


@dataclass(frozen=True)
class Bench:
    """What is measured: the shape, where the files lie, how many steps of how many threads."""

    shape: Shape
    folder: Path
    threads: int = 2
    steps: int = 60
    zipf: float = 0.0

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, names: Iterable[str]) -> None:
        """Write the files that the arms need, a process each."""
        shape, checkpoint = asdict(self.shape), self.file("checkpoint")
        writers = {
            "checkpoint": ("write_checkpoint", {"folder": checkpoint}),
            "gguf": ("write_gguf", {"path": self.file("gguf")}),
            "slab": ("write_slab", {"path": self.file("slab"), "checkpoint": checkpoint}),
        }
        wanted = set(names)
        for name, (program, keywords) in writers.items():
            if name in wanted and (answer := self.measured(Arm(name, program, {"shape": shape, **keywords}))):
                log.info("wrote %-10s %s GB", name, answer.get("gigabytes", "?"))

    def arms(self) -> list[Arm]:
        """All arms, the limited ones with what memory they get."""
        shape = self.shape
        same = {"shape": asdict(shape), "threads": self.threads, "zipf": self.zipf}
        steps = {"steps": self.steps, "warm_up": self.steps // 3}
        checkpoint, slab = {"checkpoint": self.file("checkpoint")}, {"slab": self.file("slab")}
        gguf = {"path": self.file("gguf")}
        mapped = {**same, **steps, **gguf, "repack": False}  # only so can memory be smaller than the file
        mine, theirs = {**same, **steps, **checkpoint, **slab}, ("gguf",)
        files = ("checkpoint", "slab")
        fresh = {"shape": asdict(shape), "threads": self.threads, **checkpoint}
        layer = shape.experts_bytes(BF16_BYTES) // shape.layers
        resident = shape.dense_bytes() + max(shape.experts_bytes(), 2 * layer) + ALLOWANCE["transformers"]
        quarter = shape.experts_bytes() // 4
        ours_limit = shape.dense_bytes() + quarter + ALLOWANCE["transformers"]
        their_limit = shape.dense_bytes(Q4_0_BYTES) + quarter + ALLOWANCE["llamacpp"]
        return [
            Arm("bandwidth", "bandwidth", {"threads": self.threads}),
            *(Arm(name, name, {**fresh, "path": self.file(name)}, ("checkpoint",)) for name in ("convert", "load")),
            Arm("ours", "ours", mine, files),
            Arm("llamacpp", "llamacpp", {**same, **steps, **gguf}, theirs),
            Arm("llamacpp_mapped", "llamacpp", mapped, theirs),
            Arm("ours_quarter", "ours", {**mine, "budget": quarter}, files, ours_limit, ("slab",)),
            Arm("llamacpp_quarter", "llamacpp", mapped, theirs, their_limit, ("gguf",)),
            Arm("bnb_stock", "bitsandbytes", {**same, **checkpoint}, ("checkpoint",)),
            Arm("bnb_parametrize", "bitsandbytes", {**same, **checkpoint, "parametrize": True}, ("checkpoint",)),
            Arm("accelerate", "accelerate", {**same, **checkpoint, "folder": self.file("offload")}, ("checkpoint",),
                resident, ("checkpoint",)),
        ]  # fmt: skip

    def measured(self, arm: Arm) -> dict | None:
        """What an arm answers; None where it failed or cannot be limited, and the log says why."""
        command = [sys.executable, "-m", "omni.bench.peers", arm.program, "--json", json.dumps(arm.keywords)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(self.threads)}
        try:
            with memory_limit(arm.limit) if arm.limit else contextlib.nullcontext() as group:
                evict(*map(self.file, arm.cold))
                if group:
                    command += ["--group", str(group.path)]
                done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
                peak = {"group_peak_mb": group.peak_mb(), "limit_mb": arm.limit >> 20} if group else {}
        except NoMemoryLimitError as error:
            log.warning("%s is left out: %s", arm.name, error)
            return None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            why = "killed, it needs more memory than it has" if done.returncode == -9 else last
            log.warning("%s failed: %s", arm.name, why)
            return None
        return {**json.loads(done.stdout.splitlines()[-1]), **peak}


def rounds(bench: Bench, arms: list[Arm], count: int) -> list[Results]:
    """What the arms answered in each round, the order turned round every time; an arm that fails is not tried again."""
    kept: list[Results] = []
    for number in range(count):
        results = {}
        for arm in list(arms) if number % 2 == 0 else list(reversed(arms)):
            if (answer := bench.measured(arm)) is None:
                arms = [one for one in arms if one != arm]
                continue
            results[arm.name] = answer
            log.info("%d %-17s %s", number + 1, arm.name, _line(answer))
        kept.append(results)
    return kept


def _line(answer: dict) -> str:
    """An answer for the terminal."""
    if "seconds_per_token" not in answer:
        return ", ".join(f"{name} {value:.2f}" for name, value in answer.items())
    taken = answer["seconds_per_token"]
    text = f"{1000 * statistics.median(taken):9.2f} ms a token, best {1000 * min(taken):9.2f}, anonymous"
    text += f" {answer['anon_mb']:7.0f} MB, load {answer['load']}"
    return text + (f", limit {answer['limit_mb']} MB" if "limit_mb" in answer else "")


def figures(kept: list[Results], shape: Shape, command: str) -> list[Row]:
    """A row for each figure whose arms were all measured, in every round."""
    rows = []
    for name, figure in FIGURES.items():
        with contextlib.suppress(KeyError):
            value = round(statistics.median(figure.value(results, shape) for results in kept), 2)
            rows.append(
                Row(name, value, figure.unit, figure.goal, figure.better, len(kept), None, None, machine(), command)
            )
    return rows


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m omni.bench.experts", description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--shape", type=json.loads, default={}, help="other sizes, as JSON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="tokens of the fast arms")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--zipf", type=float, default=0.0, help="how often tokens come again; 0 is uniform")
    parser.add_argument("--only", nargs="+", help="arms to run; by default all")
    parser.add_argument("--folder", type=Path, help="where the large files go for the time being")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    shape = Shape(**{"layers": arguments.layers, **arguments.shape})
    log.info("load before: %s on %d cores; %s", os.getloadavg(), os.cpu_count(), shape)
    with tempfile.TemporaryDirectory(prefix="omni-experts-", dir=arguments.folder) as folder:
        bench = Bench(shape, Path(folder), arguments.threads, arguments.steps, arguments.zipf)
        arms = [arm for arm in bench.arms() if not arguments.only or arm.name in arguments.only]
        log.info("read-ahead of the disk: %s KB (Linux' default is 128)", read_ahead_kb(folder))
        bench.write(name for arm in arms for name in arm.needs)
        kept = rounds(bench, arms, arguments.rounds)
    log.info("load after: %s", os.getloadavg())
    sizes = f"--layers {shape.layers} --rounds {arguments.rounds} --steps {arguments.steps}"
    rows = figures(kept, shape, f"python -m omni.bench.experts {sizes}")
    for row in rows:
        log.info("%-26s %8.2f %s %s %s", row.name, row.value, row.unit, row.target, "missed" if row.missed else "")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    known = {row.name: row for row in (*read_rows(arguments.out), *rows)}
    write_rows(arguments.out, known.values())


if __name__ == "__main__":
    main()
