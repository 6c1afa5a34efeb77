"""``make gpu``: the tests of tests/gpu, then the experts engine on a GPU, with rows in ``omni/bench/results/gpu.json``.

A stack of Qwen3-30B-A3B's layers with random weights decodes with 0, 25, 50 and 100% of its experts on the GPU, beside
accelerate's CPU offload and bitsandbytes as it comes. The arms take turns; a figure is the median over the rounds of a
ratio within one round. Random weights choose experts evenly, and what the next layer chooses is guessed well: the speed
at a hit rate carries over to a trained model, hit rates and guesses do not. ``--rehearse`` runs all of it on the CPU,
tiny, and leaves out the figures that need a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

from omni.bench.peers.checkpoint import config
from omni.bench.peers.shape import BF16_BYTES, LOUDNESS, Shape, tokens
from omni.experts import forward
from omni.experts.cache import Slot
from omni.experts.kernels import Cuda, Kernel, Unpacked
from omni.experts.loading import bind, take_out_experts
from omni.experts.policy import DEFAULT
from omni.experts.record import ExpertShape
from omni.experts.residence import Experts
from omni.experts.slab import Pool, Slab
from omni.experts.slab_writer import SlabWriter
from omni.figures import ROOT, Row, machine, read_rows, write_rows

log = logging.getLogger(__name__)
RESULTS = Path(__file__).parent / "results" / "gpu.json"
TINY = Shape(3, 16, 2, 128, 64, heads=2, kv_heads=1, head_dim=64, vocabulary=128)
WARM_UP, STEPS = 32, 32  # tokens of a turn
SCALE = 0.02  # of the weights
PINNED_BYTES = 256 * 2**20  # of the copy that ours are compared with


def random_model(shape: Shape, device: torch.device, with_experts: bool) -> PreTrainedModel:
    """A Qwen3-MoE of that shape in bf16 on ``device``, with or without the parameters of its experts."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig.from_dict(config(shape)))
    if not with_experts:
        take_out_experts(model)
    for name, module in model.named_modules():
        for key, weights in list(module.named_parameters(recurse=False)):
            drawn = torch.ones(weights.shape, dtype=torch.bfloat16, device=device)
            if weights.dim() > 1:
                drawn.normal_(0, SCALE * (LOUDNESS if "embed" in name else 1))
            setattr(module, key, nn.Parameter(drawn, requires_grad=False))
    return model.to(device).eval()


def write_slab(shape: Shape, path: Path) -> Slab:
    """A slab of random bytes for a model of that shape; the block maxima make weights of about SCALE of them."""
    one = ExpertShape(shape.hidden, shape.inner)
    pool = Pool("experts", tuple(f"model.layers.{n}.mlp.experts" for n in range(shape.layers)), shape.experts, one)
    drawn = torch.randint(256, (2 * one.record_bytes,), dtype=torch.uint8)
    with SlabWriter(path, "random", "rows", (pool,)) as writer:
        for number, key in enumerate(writer.missing()):
            start = number * 4099 % one.record_bytes  # each record begins elsewhere in the same random bytes
            record = drawn[start : start + one.record_bytes].clone()
            for matrix in one.matrices:
                matrix.absmax(record).uniform_(SCALE, 3 * SCALE)
            writer.put(*key, record)
        writer.finish()
    return Slab.open(path)


class Stack:
    """Ours: a model whose experts come from a slab. State: both, and the cache of the only pool."""

    def __init__(self, shape: Shape, folder: Path, device: torch.device, kernel: Kernel | None = None, home=None):
        """``kernel``, and ``home``, what the experts are told of the device, are for rehearsals."""
        self.shape, self.device = shape, device
        self.model = random_model(shape, device, with_experts=False)
        kernel = kernel or (Cuda if device.type == "cuda" else Unpacked)(torch.bfloat16)
        slab = write_slab(shape, folder / "experts.slab")
        self.experts = Experts(slab, kernel, home or device, [shape.top_k], DEFAULT)
        forward.register()
        bind(self.model, self.experts)
        [self.held] = self.experts.pools

    def resize(self, budget: float, ahead: bool = False) -> int:
        """Have a part of the experts on the GPU, at least what one token needs in one layer; the budget in bytes."""
        taken = max(self.experts.least_bytes, int(self.experts.most_bytes * budget))
        self.experts.resize(taken)
        self.held.foresight.forced = ahead
        return taken

    def fetch_all(self) -> float:
        """Ask for every expert once, up to two tokens' worth on their way at a time; bytes a second."""
        every = [(layer, expert) for layer in range(self.shape.layers) for expert in range(self.shape.experts)]
        cache, waiting = self.held.cache, []
        synchronize(self.device)
        before, started = self.experts.counts().bytes_read, time.perf_counter()
        for at in range(0, len(every), self.shape.top_k):
            waiting.append(cache.acquire(every[at : at + self.shape.top_k], passing=True))
            if len(waiting) > 1:
                self._release(waiting.pop(0))
        self._release(waiting.pop())
        synchronize(self.device)
        return (self.experts.counts().bytes_read - before) / (time.perf_counter() - started)

    def _release(self, slots: list[Slot]) -> None:
        for slot in slots:
            self.held.cache.wait(slot)
        self.held.cache.release(slots)

    def close(self) -> None:
        self.experts.close()
        self.experts.slab.path.unlink()


def bitsandbytes_stock(shape: Shape, device: torch.device) -> PreTrainedModel:
    """What bitsandbytes' 4-bit loading makes of the model: linear layers in NF4, the experts as they were."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    model = random_model(shape, device, with_experts=True)
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and name != "lm_head":
            packed = Linear4bit(module.in_features, module.out_features, False, torch.bfloat16, quant_type="nf4")
            packed.weight = Params4bit(module.weight.data, requires_grad=False, quant_type="nf4").to(device)
            model.set_submodule(name, packed)
    return model.eval()


def accelerate_offloaded(shape: Shape, device: torch.device) -> PreTrainedModel:
    """The layers in RAM in bf16, each brought to the GPU as a whole when it is run; the rest stays there."""
    from accelerate import cpu_offload

    model = random_model(shape, device, with_experts=True)
    for layer in model.model.layers:
        cpu_offload(layer.to("cpu"), execution_device=device)
    return model


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pinned_bandwidth(device: torch.device, repeats: int = 8) -> float:
    """Bytes a second of one large copy from pinned memory."""
    source = torch.ones(PINNED_BYTES, dtype=torch.uint8, pin_memory=device.type == "cuda")
    target, taken = torch.empty_like(source, device=device), []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        target.copy_(source, non_blocking=True)
        synchronize(device)
        taken.append(time.perf_counter() - started)
    return PINNED_BYTES / statistics.median(taken)


def seconds_of(model: PreTrainedModel, cache: DynamicCache, ids: Sequence[int]) -> list[float]:
    """Seconds of each decoded token. Raises RuntimeError where a logit is not a number."""
    taken = []
    for token in ids:
        started = time.perf_counter()
        with torch.inference_mode():
            one = torch.tensor([[token]], device=model.device)
            logit = model(input_ids=one, cache=cache, use_cache=True).logits.max().item()
        taken.append(time.perf_counter() - started)
        if not math.isfinite(logit):
            raise RuntimeError("a logit is not a number: the random weights do not suit this arm")
    return taken


@dataclass(frozen=True)
class Turn:
    """What an arm did in its turn: median seconds and bytes brought to the GPU for a token, and of ours some more."""

    seconds: float
    read: float = 0.0
    hit_rate: float = 1.0
    held: int = 0  # bytes of the experts' weights on the GPU
    peak: float = math.nan  # most memory of experts and of what a step computes, over the budget

    @property
    def told(self) -> str:
        milliseconds, megabytes = 1000 * self.seconds, self.read / 1e6
        return f"{milliseconds:9.2f} ms a token, {megabytes:7.1f} MB brought, {100 * self.hit_rate:5.1f}% hits"


def theirs(model: PreTrainedModel, shape: Shape, warm_up: int, steps: int) -> Turn:
    cache, ids = DynamicCache(), tokens(shape, warm_up + steps)
    seconds_of(model, cache, ids[:warm_up])
    held = sum(one.nbytes for name, one in model.named_parameters() if ".experts." in name)
    return Turn(statistics.median(seconds_of(model, cache, ids[warm_up:])), held=held)


def ours(stack: Stack, share: float, ahead: bool = False) -> Turn:
    """Decode with that share of the experts on the GPU."""
    budget = stack.resize(share, ahead)
    if share >= 1:
        stack.fetch_all()
    ids, cache, rest = tokens(stack.shape, WARM_UP + STEPS), DynamicCache(), 0
    if stack.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        rest = torch.cuda.memory_allocated() - stack.experts.bytes_held
    seconds_of(stack.model, cache, ids[:WARM_UP])
    before = stack.experts.counts()
    seconds = statistics.median(seconds_of(stack.model, cache, ids[WARM_UP:]))
    counts = stack.experts.counts()
    hits, misses = counts.hits - before.hits, counts.misses - before.misses
    peak = (torch.cuda.max_memory_allocated() - rest) / budget if stack.device.type == "cuda" else math.nan
    read = (counts.bytes_read - before.bytes_read) / STEPS
    return Turn(seconds, read, hits / (hits + misses), stack.experts.bytes_held, peak)


Arms = dict[str, Callable[[], Turn]]
Results = dict[str, Turn]


def arms_of(stack: Stack, device: torch.device) -> Arms:
    """Everyone who takes turns; a peer that cannot be made here is left out, and the log says why."""
    shape = stack.shape
    layer = shape.experts_bytes(BF16_BYTES) / shape.layers / stack.experts.most_bytes  # what accelerate holds at once
    arms: Arms = {f"at_{share}": partial(ours, stack, share / 100) for share in (0, 25, 50, 100)}
    arms |= {f"ahead_{share}": partial(ours, stack, share / 100, ahead=True) for share in (25, 50)}
    arms["at_layer"] = partial(ours, stack, min(1.0, layer))
    peers = {"accelerate": (accelerate_offloaded, 1, 2), "bitsandbytes": (bitsandbytes_stock, 4, 24)}
    for name, (make, warm_up, steps) in peers.items():
        try:
            arms[name] = partial(theirs, make(shape, device), shape, warm_up, steps)
        except Exception:
            log.exception("%s is left out: it cannot be made here", name)
    return arms


def one_round(stack: Stack, arms: Arms, backwards: bool) -> Results:
    """A turn of everyone, with the speed of copies at its beginning. An arm that fails is not tried again."""
    stack.resize(0.25)
    results = {"pinned": Turn(1 / pinned_bandwidth(stack.device)), "copied": Turn(1 / stack.fetch_all())}
    for name in reversed(list(arms)) if backwards else list(arms):
        try:
            results[name] = arms[name]()
            log.info("  %-12s %s", name, results[name].told)
        except Exception:
            log.exception("%s failed and is left out from now on", name)
            del arms[name]
    return results


@dataclass(frozen=True)
class Figure:
    """A row: its unit and goal, how its value follows from one round, and whether that says something on a CPU."""

    unit: str
    goal: float | None
    value: Callable[[Results], float]
    better: str = "higher"
    anywhere: bool = True


def _faster(arm: str, peer: str, unit: float = 1.0) -> Callable[[Results], float]:
    """How many times, in percent with a ``unit`` of 100, an arm is faster than another."""
    return lambda results: unit * results[peer].seconds / results[arm].seconds


def _without_overlap(arm: str) -> Callable[[Results], float]:
    """Percent of the speed at which each token takes its time with all experts in place, and that of its copies."""

    def value(results: Results) -> float:
        alone = results["at_100"].seconds + results[arm].read * results["pinned"].seconds
        return 100 * alone / results[arm].seconds

    return value


FIGURES = {
    "pinned_bandwidth": Figure("GB/s", None, lambda results: 1e-9 / results["pinned"].seconds, anywhere=False),
    "copy_bandwidth": Figure("%", 90, _faster("copied", "pinned", 100), anywhere=False),
    **{f"speed_at_{share}": Figure("%", 70, _without_overlap(f"at_{share}"), anywhere=False) for share in (0, 25, 50)},
    **{f"ahead_at_{share}": Figure("%", 100, _without_overlap(f"ahead_{share}"), anywhere=False) for share in (25, 50)},
    **{f"hits_at_{n}": Figure("%", None, lambda all, n=n: 100 * all[f"at_{n}"].hit_rate) for n in (0, 25, 50)},
    **{f"resident_at_{n}": Figure("%", None, _faster(f"at_{n}", "at_100", 100)) for n in (0, 25, 50)},
    "decode_resident": Figure("tokens/s", None, lambda results: 1 / results["at_100"].seconds),
    "peak_over_budget": Figure("%", 105, lambda all: 100 * all["at_25"].peak, "lower", anywhere=False),
    "vs_accelerate": Figure("x", None, _faster("at_layer", "accelerate")),
    "vs_bnb_speed": Figure("x", None, _faster("at_100", "bitsandbytes")),
    "vs_bnb_memory": Figure("x", None, lambda results: results["bitsandbytes"].held / results["at_100"].held),
}


def rows_of(kept: list[Results], where: str, everything: bool) -> list[Row]:
    """A row for each figure whose arms were measured in every round."""
    rows = []
    for name, figure in FIGURES.items():
        if everything or figure.anywhere:
            with contextlib.suppress(KeyError):  # an arm was left out
                value = round(statistics.median(figure.value(results) for results in kept), 2)
                rows.append(
                    Row(name, value, figure.unit, figure.goal, figure.better, len(kept), None, None, where, "make gpu")
                )
    return rows


def state() -> str:
    """The load of the machine, and the power and clock of its GPU."""
    told = f"load {os.getloadavg()[0]:.1f}"
    if torch.cuda.is_available():
        try:
            told += f", GPU at {torch.cuda.power_draw() / 1000:.0f} W and {torch.cuda.clock_rate()} MHz"
        except Exception as error:  # there are many ways not to be told
            told += f", power and clock of the GPU unknown ({error})"
    return told


def tests_pass(rehearse: bool, limit: float) -> bool:
    """Run tests/gpu in a process of its own, for at most ``limit`` seconds."""
    command = [sys.executable, "-m", "pytest", "tests/gpu", "--confcutdir", "tests/gpu", "-p", "no:cacheprovider", "-q"]
    command += ["--rehearse"] * rehearse
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipe) as process:
        timer = threading.Timer(limit, process.kill)
        timer.start()
        for line in process.stdout:
            log.info("  %s", line.rstrip())
        timer.cancel()
    if process.returncode < 0:
        log.warning("The tests were stopped after %.0f seconds.", limit)
    return process.returncode == 0


def measure(shape: Shape, device: torch.device, rounds: int, until: float) -> Iterator[list[Results]]:
    """Build everything, then go round while there is time; yields all rounds so far after each."""
    memory = Path("/dev/shm")  # read at the speed of RAM; on a disk where it is too small
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 1.2 * shape.experts_bytes()
    with tempfile.TemporaryDirectory(prefix="omni-gpu-", dir=memory if roomy else None) as folder:
        started = time.monotonic()
        stack = Stack(shape, Path(folder), device)
        try:
            stack.fetch_all()  # into RAM, each record compared with its checksum
            arms, kept = arms_of(stack, device), []
            log.info("%s made in %.0f s", shape, time.monotonic() - started)
            for number in range(rounds):
                started = time.monotonic()
                log.info("round %d of %d, %s", number + 1, rounds, state())
                kept.append(one_round(stack, arms, backwards=number % 2 == 1))
                yield kept
                if 2 * time.monotonic() - started > until:
                    log.info("There is no time for another round.")
                    break
        finally:
            stack.close()


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m omni.bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="a tiny stack on the CPU")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop, tests included")
    parser.add_argument("--no-tests", action="store_true", help="measure only")
    arguments = parser.parse_args(words)
    rehearse, started = arguments.rehearse, time.monotonic()
    if not (rehearse or torch.cuda.is_available()):
        print("There is no CUDA GPU here, so nothing was measured; --rehearse runs all of it on the CPU.")
        return 0
    out = Path(tempfile.gettempdir()) / "gpu-rehearsal.json" if rehearse else RESULTS
    outs = [out, *([Path(os.environ["OUT"]) / out.name] if os.environ.get("OUT") else [])]
    files = [logging.FileHandler(one.with_suffix(".log"), "w") for one in outs]
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[logging.StreamHandler(), *files])
    device = torch.device("cpu") if rehearse else torch.device("cuda", torch.cuda.current_device())
    where = machine() if rehearse else f"{torch.cuda.get_device_name(device)}; {machine()}"
    log.info("%s, torch %s, %s", where, torch.__version__, state())
    passed = arguments.no_tests or tests_pass(rehearse, 30 * arguments.minutes)
    shape, until = TINY if rehearse else Shape(layers=arguments.layers), started + 60 * arguments.minutes
    for kept in measure(shape, device, 2 if rehearse else arguments.rounds, until):
        for one in outs:
            write_rows(one, rows_of(kept, where, everything=not rehearse))
    for row in read_rows(out):
        log.info("%-18s %9.2f %s %s %s", row.name, row.value, row.unit, row.target, "missed" if row.missed else "")
    if rehearse:
        log.info("Left out, for want of a GPU: %s", ", ".join(name for name in FIGURES if not FIGURES[name].anywhere))
    log.info("%s, %.0f s in all", state(), time.monotonic() - started)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
