"""The experts engine on a GPU: streams, events, the pinned ring, memory. What is where never changes an answer."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny
import torch
from machines import Gpu
from torch import Tensor, nn
from transformers import DynamicCache

from omni.bench import gpu
from omni.bench.peers.shape import Shape, tokens
from omni.experts import record
from omni.experts.conversion import convert
from omni.experts.kernels import Kernel
from omni.experts.loading import bind, load_model
from omni.experts.policy import DEFAULT, POLICIES
from omni.experts.record import ExpertShape, LoneMatrix
from omni.experts.residence import Experts
from omni.experts.slab import Slab
from omni.experts.staging import STAGES, Ring

ROOT = Path(__file__).parents[2]
BUDGETS: dict[str, Callable[[Experts], int]] = {
    "least": lambda experts: experts.least_bytes,
    "half": lambda experts: experts.most_bytes // 2,
    "all": lambda experts: experts.most_bytes,
}
MODELS = {
    "top 2": lambda: tiny.qwen3_moe(16, 2),
    "top 8": lambda: tiny.qwen3_moe(16, 8),
    "omni": tiny.qwen3_omni,
}


class Host:
    """A tiny model on the machine, whose experts are held anew for each test; ``resident``: logits with all of them."""

    def __init__(self, machine: Gpu, checkpoint: Path):
        self.machine, self.checkpoint = machine, checkpoint
        loaded = load_model(checkpoint, device=machine.device, kernel=machine.kernel())
        self.model, self.slab = loaded.model, loaded.experts.slab.path
        self.top_k = [held.top_k for held in loaded.experts.pools]
        loaded.experts.close()
        self.answer = tiny.logits_of if len(self.top_k) == 1 else _thought_and_spoken
        with self.holding("all"):
            self.resident = self.run()

    @contextlib.contextmanager
    def holding(
        self, budget: str, policy: str = DEFAULT, prefetch: bool | None = None, ram: int | None = None
    ) -> Iterator[Experts]:
        slab = Slab.open(self.slab)
        experts = Experts(slab, self.machine.kernel(), self.machine.home, self.top_k, policy, ram)
        try:
            experts.resize(BUDGETS[budget](experts))
            bind(self.model, experts)
            for held in experts.pools:
                held.foresight.forced = prefetch
            yield experts
        finally:
            experts.close()

    @torch.inference_mode()
    def run(self, between: Callable[[int], None] = lambda _: None) -> Tensor:
        return self.answer(self.model, between)


def _thought_and_spoken(omni: nn.Module, between: Callable[[int], None]) -> Tensor:
    return torch.cat([tiny.logits_of(omni.thinker, between).flatten(), tiny.spoken(omni).flatten()])


@pytest.fixture(scope="session")
def hosts(machine: Gpu, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Host]:
    made: dict[str, Host] = {}

    def host(name: str) -> Host:
        if name not in made:
            folder = tmp_path_factory.mktemp("checkpoint")
            made[name] = Host(machine, tiny.save(MODELS[name](), folder))
        return made[name]

    return host


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [False, True], ids=["as asked", "ahead"])
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(
    ("name", "policy"), [*(("top 2", policy) for policy in POLICIES), ("top 8", DEFAULT), ("omni", DEFAULT)]
)
def test_cached_equals_resident(name, budget, policy, prefetch, hosts):
    """Cold and warm, thinker and talker. Guards every missing wait between the copies and the computation."""
    host = hosts(name)
    with host.holding(budget, policy, prefetch):
        for _ in range(2):
            assert torch.equal(host.run(), host.resident)


def test_resized_in_mid_generation(hosts):
    host = hosts("top 2")
    with host.holding("all") as experts:
        sizes = [BUDGETS[name](experts) for name in ("half", "least", "all", "least")]
        assert torch.equal(host.run(lambda step: experts.resize(sizes[step % len(sizes)])), host.resident)
        assert experts.bytes_held <= experts.budget


@pytest.mark.parametrize("name", ["top 2", "omni"])
def test_resized_from_another_thread_under_load(name, hosts):
    """The thread that resizes has another current stream: memory it gives back may still be read or written."""
    host = hosts(name)
    with host.holding("half") as experts:
        sizes, done, rng = [size(experts) for size in BUDGETS.values()], threading.Event(), random.Random(3)

        def resize() -> None:
            while not done.wait(0.001):
                experts.resize(rng.choice(sizes))

        thread = threading.Thread(target=resize)
        thread.start()
        try:
            answers = [host.run() for _ in range(8)]
        finally:
            done.set()
            thread.join()
        assert all(torch.equal(answer, host.resident) for answer in answers)


def test_a_tier_in_ram_smaller_than_the_model(hosts):
    host = hosts("top 2")
    with host.holding("least", ram=host.slab.stat().st_size // 4) as experts:
        assert torch.equal(host.run(), host.resident)
        below = experts.pools[0].below
        assert below.bytes_held <= below.target * below.slot_bytes < host.slab.stat().st_size // 3


def test_on_a_stream_and_in_a_thread_of_its_own(machine, hosts):
    """A thread starts on the default stream: the readers must wait for the stream of who asks, not for their own."""
    host = hosts("top 2")

    def aside() -> Tensor:
        with machine.aside():
            return host.run(lambda _: machine.keep_busy())

    with host.holding("least"), ThreadPoolExecutor(1) as other:
        assert torch.equal(aside(), host.resident)
        assert torch.equal(other.submit(aside).result(), host.resident)
        assert torch.equal(host.run(), host.resident)


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_slots_made_in_one_mode_are_filled_in_another(first, hosts):
    """A slot made in inference mode may be written only in it, and a reader thread starts outside of every mode."""
    host = hosts("top 2")
    with host.holding("half") as experts:
        with first():
            cold = host.answer(host.model).detach()
        experts.resize(experts.least_bytes)
        with torch.no_grad():
            small = host.answer(host.model)
        assert torch.equal(cold, host.resident) and torch.equal(small, host.resident)


def test_forked_before_anything_of_cuda(hosts, request, tmp_path):
    """As on ZeroGPU: threads, locks and streams of the parent are of no use in the child."""
    host = hosts("top 2")
    rehearse = ["--rehearse"] if request.config.getoption("--rehearse", False) else []
    script, out = Path(__file__).with_name("forked.py"), tmp_path / "logits"
    command = [sys.executable, str(script), str(host.checkpoint), str(out)]
    environment = {**os.environ, "PYTHONPATH": _path(), "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    done = subprocess.run(command + rehearse, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    for number in range(2):
        assert torch.equal(torch.load(out.with_suffix(f".{number}")), host.resident.cpu())


def _path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


# ---- slots -----------------------------------------------------------------------------------------------------------


def test_slots_hold_their_records_after_many_evictions(machine, hosts):
    host = hosts("top 2")
    with host.holding("least") as experts, Slab.open(host.slab) as slab:
        [held] = experts.pools
        keys = [(layer, expert) for layer in range(len(held.pool.layers)) for expert in range(held.pool.experts)]
        truth = {key: _record(slab, key).to(machine.device) for key in keys}
        rng = random.Random(5)
        for _ in range(80):
            group = rng.sample(keys, held.top_k)
            machine.keep_busy()
            slots = held.cache.acquire(group)
            for key, slot in zip(group, slots, strict=True):
                held.cache.wait(slot)
                assert torch.equal(slot.memory, truth[key])
            held.cache.release(slots)
            held.cache.prefetch(rng.sample(keys, held.top_k))
        assert held.cache.residents <= held.top_k


def test_converted_alike_on_either_machine(hosts, tmp_path):
    """The GPU quantises to the same bytes as the CPU does."""
    host = hosts("top 2")
    with Slab.open(host.slab) as slab:
        convert(host.checkpoint, tmp_path / "experts.slab", slab.pools)
        with Slab.open(tmp_path / "experts.slab") as other:
            assert other.checksum == slab.checksum


def _record(slab: Slab, key: tuple[int, int]) -> Tensor:
    taken = torch.empty(slab.pools[0].shape.record_bytes, dtype=torch.uint8)
    slab.read(0, *key, taken)
    return taken


@pytest.mark.parametrize("tokens", [1, 2, 7, 64])
def test_products_are_near_those_of_the_dequantised_weights(tokens, machine):
    """bitsandbytes' kernel rounds levels, scales and their products to bf16, each 2^-9 at most: 1% is beyond that."""
    shape, generator = ExpertShape(2048, 768), torch.Generator().manual_seed(tokens)
    held = torch.zeros(shape.record_bytes, dtype=torch.uint8)
    drawn = [torch.randn(rows, columns, generator=generator) * 0.02 for rows, columns in shape.sizes]
    record.write(held, shape, *drawn, "rows")
    kernel, slot = machine.kernel(), torch.empty_like(held, device=machine.device)
    slot.copy_(held)
    for matrix, operand in zip(shape.matrices, kernel.prepare(slot, shape), strict=True):
        x = torch.randn(tokens, matrix.columns, generator=generator).bfloat16()
        made = kernel.apply(x.to(machine.device), operand)
        true = x.float() @ record.dequantise(held, matrix, "rows", torch.float32).T
        assert (made.cpu().float() - true).norm() < 0.01 * true.norm()


# ---- the ring --------------------------------------------------------------------------------------------------------

SMALL = LoneMatrix(64, 64)  # a record of one page


def _random(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, SMALL.record_bytes), generator=generator, dtype=torch.uint8)


def test_a_stage_is_never_filled_before_it_is_sent(machine):
    """Many small records from many threads, while the copies wait for a busy stream."""
    ring, kernel, sources = Ring(SMALL.record_bytes, machine.home), machine.kernel(), _random(40 * STAGES)
    slots = ring.room(sources.numel()).view_as(sources)
    with ThreadPoolExecutor(4) as readers:
        for batch in torch.arange(len(sources)).split(4 * STAGES):
            machine.keep_busy()
            _send(readers, ring, kernel, sources, slots, batch.tolist())
    machine.synchronize()
    assert torch.equal(slots.cpu(), sources)


def _send(
    readers: ThreadPoolExecutor, ring: Ring, kernel: Kernel, sources: Tensor, slots: Tensor, which: Sequence[int]
) -> None:
    mark = ring.mark()
    futures = [readers.submit(ring.send, sources[one], slots[one], kernel, SMALL, mark) for one in which]
    for future in futures:
        ring.arrive(future.result())


def test_a_slot_is_not_overwritten_while_it_is_read(machine):
    """The copy waits for the stream on which the slot is read, whatever stream that is."""
    ring, kernel, (first, second) = Ring(SMALL.record_bytes, machine.home), machine.kernel(), _random(2)
    slot, stream = ring.room(SMALL.record_bytes), machine.stream()
    early, later = (torch.empty(SMALL.record_bytes, dtype=torch.uint8, device=machine.device) for _ in range(2))
    machine.synchronize()
    with ThreadPoolExecutor(1) as reader, machine.on(stream):
        ring.arrive(reader.submit(ring.send, first, slot, kernel, SMALL, ring.mark()).result())
        machine.keep_busy()
        machine.do(lambda: early.copy_(slot))
        ring.arrive(reader.submit(ring.send, second, slot, kernel, SMALL, ring.mark()).result())
        machine.do(lambda: later.copy_(slot))
        machine.synchronize()
    assert torch.equal(early.cpu(), first) and torch.equal(later.cpu(), second)


def test_memory_given_back_is_not_written_any_more(machine):
    """A chunk that leaves while a copy into it is under way must not be anybody's before that copy is done."""
    ring, kernel, sources = Ring(SMALL.record_bytes, machine.home), machine.kernel(), _random(STAGES)
    with ThreadPoolExecutor(2) as readers:
        slots = ring.room(32 * 2**20)
        machine.keep_busy()
        mark = ring.mark()
        for source, slot in zip(sources, slots.split(SMALL.record_bytes), strict=False):
            readers.submit(ring.send, source, slot, kernel, SMALL, mark).result()
        del slots, slot
        other = torch.full((32 * 2**20,), 7, dtype=torch.uint8, device=machine.device)
    machine.synchronize()
    assert bool((other == 7).all())


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_peak_memory_stays_within_the_budget(machine, tmp_path):
    """At most 5% above the budget, with what a step computes in between; the dense part comes on top."""
    counted = machine.peak() is not None
    shape = Shape(8, 64, 8, 1024, 512, heads=8, kv_heads=2, vocabulary=512) if counted else gpu.TINY
    stack = gpu.Stack(shape, tmp_path, machine.device, machine.kernel(), machine.home)
    try:
        stack.resize(0)
        gpu.seconds_of(stack.model, DynamicCache(), tokens(shape, 4))  # the libraries' own memory is taken once
        rest = machine.forget_peak() - stack.experts.bytes_held
        budget = stack.resize(0.5)
        gpu.seconds_of(stack.model, DynamicCache(), tokens(shape, 40))
        assert shape.experts_bytes() / 4 < stack.experts.bytes_held <= budget
        if counted:
            assert machine.peak() - rest <= 1.05 * budget
    finally:
        stack.close()
