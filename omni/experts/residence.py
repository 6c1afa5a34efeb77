"""All experts of a model: its slab, a cache a pool, and one budget in bytes that is dealt between the pools.

On a CPU an expert goes from the file straight into its slot. On a GPU it passes a tier in RAM, which may be smaller
than the file, and a small ring of pinned memory from which copies run beside the computation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from omni.experts.cache import READERS, Fill, Key, SlotCache, too_little
from omni.experts.forward import Foresight, LayerExperts
from omni.experts.kernels import Kernel
from omni.experts.policy import make_policy
from omni.experts.record import ExpertShape
from omni.experts.slab import Pool, Slab
from omni.experts.staging import Ring
from omni.experts.stats import Counts, PoolStats, RoutingLog

FIRST = 1000  # times the weight of the others: as good as before them


@dataclass(eq=False)
class HeldPool:
    """One pool at work: its cache in the fast memory, on a GPU the tier in RAM below it, and its counters."""

    pool: Pool
    kernel: Kernel
    top_k: int
    cache: SlotCache
    below: SlotCache | None
    stats: PoolStats
    routing: RoutingLog
    foresight: Foresight

    def layer(self, index: int, next_router: nn.Module | None) -> LayerExperts:
        """What the module of one layer needs to compute its experts."""
        return LayerExperts(index, self.cache, self.kernel, self.routing, next_router, self.top_k, self.foresight)

    def resident(self) -> np.ndarray:
        """Which experts are in the fast memory, (layers, experts) bool."""
        there = np.zeros((len(self.pool.layers), self.pool.experts), bool)
        for key in self.cache.present():
            there[key] = True
        return there

    @property
    def budget(self) -> int:
        return self.cache.target * self.cache.slot_bytes

    @property
    def least_bytes(self) -> int:
        return self.cache.least * self.cache.slot_bytes

    @property
    def most_bytes(self) -> int:
        return self.cache.most * self.cache.slot_bytes


class Experts:
    """The experts of one model in memory. State: a cache a pool, and how the budget is dealt."""

    def __init__(
        self,
        slab: Slab,
        kernel: Kernel,
        device: torch.device,
        top_k: Sequence[int],
        policy: str,
        ram: int | None = None,
    ):
        """``top_k``: by pool, how many experts a token takes. ``ram``: bytes of the tier below a GPU; None for all."""
        self.slab, self.device = slab, device
        self.pools = [self._hold(number, kernel, count, policy) for number, count in enumerate(top_k)]
        self.resize(self.most_bytes)
        if device.type == "cuda":
            _deal([held.below for held in self.pools], ram)

    @property
    def most_bytes(self) -> int:
        """What holds every expert."""
        return sum(held.most_bytes for held in self.pools)

    @property
    def least_bytes(self) -> int:
        """What the experts of one token in one layer take, of every pool."""
        return sum(held.least_bytes for held in self.pools)

    @property
    def budget(self) -> int:
        """Bytes that the caches may take."""
        return sum(held.budget for held in self.pools)

    @property
    def bytes_held(self) -> int:
        """Bytes that the caches have taken by now."""
        return sum(held.cache.bytes_held for held in self.pools)

    def resize(self, budget: int, shares: Mapping[str, float] | None = None) -> None:
        """Let the caches take at most ``budget`` bytes from now on, also while the model runs.

        ``shares`` says how it is dealt, by pool name, in any unit; without it as ``wanted`` has it. Raises
        BudgetError, and changes nothing, where a pool could not hold the experts that one token needs in one layer.
        """
        if budget < self.least_bytes:
            raise too_little(budget, self.least_bytes)
        weights = [shares[held.pool.name] for held in self.pools] if shares else wanted(self.pools)
        dealt = dealt_out(budget, weights, self.pools)
        order = sorted(range(len(dealt)), key=lambda i: dealt[i] - self.pools[i].budget)
        for index in order:  # who shrinks goes first, so that together they never take more than the budget
            self.pools[index].cache.resize(dealt[index])

    def bring_all(self) -> None:
        """Have every expert on the device from now on, without a reader, a stream or pinned memory.

        For a GPU that is lent to a process of each reply: what is on it now is what that process begins with.
        """
        for number, held in enumerate(self.pools):
            held.cache.adopt([self._layer(number, layer) for layer in range(len(held.pool.layers))])

    def _layer(self, number: int, layer: int) -> tuple[list[Key], Tensor]:
        """The experts of a layer, and their slots in one piece of the device's memory."""
        held = self.pools[number]
        keys = [(layer, expert) for expert in range(held.pool.experts)]
        memory, fill = _ram(len(keys) * held.cache.slot_bytes), self._from_file(number, held.kernel)
        for key, piece in zip(keys, memory.split(held.cache.slot_bytes), strict=True):
            fill(key, piece)
        return keys, memory.to(self.device)

    def counts(self) -> Counts:
        """What happened to all experts so far."""
        return sum((held.stats.total() for held in self.pools), Counts())

    def describe(self) -> str:
        """In words, what is where."""
        parts = [
            f"{held.pool.name}: {held.cache.target} of {held.cache.most} experts ({held.cache.bytes_held / 1e6:.0f} of "
            f"{held.most_bytes / 1e6:.0f} MB in memory)"
            for held in self.pools
        ]
        return f"experts in 4 bits on {self.device}: {', '.join(parts)}; the rest in {self.slab.path.name}"

    def close(self) -> None:
        """Let go of all memory, threads and the file."""
        for held in self.pools:
            held.cache.close()
            if held.below:
                held.below.close()
        self.slab.close()

    def _hold(self, number: int, kernel: Kernel, top_k: int, policy: str) -> HeldPool:
        pool = self.slab.pools[number]
        layers, slot_bytes = len(pool.layers), kernel.slot_bytes(pool.shape)

        def prepare(memory: Tensor) -> tuple:
            return kernel.prepare(memory, pool.shape)

        stats = PoolStats(layers, pool.experts)

        def make(fill: Fill, memory, slot_bytes: int, counted: PoolStats, prepare, **hooks) -> SlotCache:
            return SlotCache(fill, memory, prepare, slot_bytes, make_policy(policy, layers), counted, top_k, **hooks)

        if self.device.type != "cuda":
            fill = self._from_file(number, kernel)
            cache = make(fill, _ram, slot_bytes, stats, prepare)
            below = None
        else:
            below_stats = PoolStats(layers, pool.experts)
            record_bytes = pool.shape.record_bytes
            read = self._reader(number)
            below = make(read, _ram, record_bytes, below_stats, lambda memory: memory)
            ring = Ring(record_bytes, self.device)
            fill = _from_ram(below, ring, kernel, pool.shape)
            cache = make(
                fill, ring.room, slot_bytes, stats, prepare,
                arrive=ring.arrive, asked=lambda fill: partial(fill, after=ring.mark()),
            )  # fmt: skip
        routing = RoutingLog(layers, pool.experts)
        return HeldPool(pool, kernel, top_k, cache, below, stats, routing, Foresight())

    def _reader(self, number: int) -> Fill:
        """Bring a record from the file as it is."""

        def read(key: Key, memory: Tensor) -> None:
            self.slab.read(number, *key, memory)

        return read

    def _from_file(self, number: int, kernel: Kernel) -> Fill:
        """Bring a record from the file and settle it as ``kernel`` wants it."""
        shape = self.slab.pools[number].shape
        in_place = kernel.slot_bytes(shape) == shape.record_bytes

        def fill(key: Key, memory: Tensor) -> None:
            taken = memory if in_place else torch.empty(shape.record_bytes, dtype=torch.uint8)
            self.slab.read(number, *key, taken)
            kernel.settle(taken, memory, shape)

        return fill


def _ram(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8)


def _from_ram(below: SlotCache, ring: Ring, kernel: Kernel, shape: ExpertShape) -> Fill:
    """Bring a record from the tier in RAM to the GPU, over a pinned stage, once the GPU has come to ``after``."""

    def fill(key: Key, memory: Tensor, after: torch.cuda.Event) -> object:
        [slot] = below.acquire([key])
        try:
            below.wait(slot)
            return ring.send(slot.memory, memory, kernel, shape, after)
        finally:
            below.release([slot])

    return fill


def _deal(caches: Sequence[SlotCache], budget: int | None) -> None:
    """Size the tiers in RAM: all of it, or ``budget`` bytes by the size of the pools."""
    everything = sum(cache.most * cache.slot_bytes for cache in caches)
    share = 1.0 if budget is None else min(1.0, budget / everything)
    for cache in caches:
        least = max(cache.least, READERS)  # each reader of the tier above holds one
        cache.resize(max(least, int(share * cache.most)) * cache.slot_bytes)


def wanted(pools: Sequence[HeldPool]) -> list[float]:
    """How pools share a budget: by their size, but a talker first, which makes several frames for a token of text.

    A byte of its experts saves about three times the reading that one of a thinker's does.
    """
    return [held.most_bytes * (FIRST if held.pool.name == "talker" else 1) for held in pools]


def dealt_out(budget: int, weights: Sequence[float], pools: Sequence[HeldPool]) -> list[int]:
    """Bytes for each pool: its least, and of the rest a part by weight, what one cannot use going to the others."""
    dealt = [held.least_bytes for held in pools]
    rest = budget - sum(dealt)
    open_ = [index for index in range(len(pools)) if weights[index] > 0]
    while rest > 0 and open_:
        total = sum(weights[index] for index in open_)
        given = {
            index: min(int(rest * weights[index] / total), pools[index].most_bytes - dealt[index]) for index in open_
        }
        for index, amount in given.items():
            dealt[index] += amount
        rest -= sum(given.values())
        still = [index for index in open_ if dealt[index] < pools[index].most_bytes]
        if len(still) == len(open_):
            break
        open_ = still
    return dealt
