"""A slot cache of twelve tiny experts, in memory that is counted, and fetches that a test completes one by one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
import pytest
import torch
from torch import Tensor

from omni.experts import cache as cache_module
from omni.experts.cache import Fill, Key, SlotCache
from omni.experts.policy import make_policy
from omni.experts.stats import PoolStats

LAYERS, EXPERTS, LEAST = 3, 4, 2
SLOT = 64  # bytes
CHUNK = 3  # slots
ALL = [(layer, expert) for layer in range(LAYERS) for expert in range(EXPERTS)]
COMING = 255  # what is in a slot while it is written


def mark(key: Key) -> int:
    """The byte that an expert consists of here."""
    return 1 + ALL.index(key)


class Memory:
    """Counts the bytes that are alive, and allows no more than ``allowed`` says when some are taken."""

    def __init__(self):
        self.alive = 0
        self.allowed: Callable[[], int] = lambda: 0

    def __call__(self, size: int) -> Tensor:
        assert self.alive + size <= self.allowed()
        self.alive += size
        memory = np.zeros(size, np.uint8)
        weakref.finalize(memory, self._freed, size)
        return torch.from_numpy(memory)

    def _freed(self, size: int) -> None:
        self.alive -= size


def make_cache(
    fill: Fill, policy: str = "lfu", slots: int = 6, least: int = LEAST, **options
) -> tuple[SlotCache, Memory]:
    memory = Memory()
    stats = PoolStats(LAYERS, EXPERTS)
    made = SlotCache(fill, memory, lambda piece: piece, SLOT, make_policy(policy, LAYERS), stats, least, **options)
    memory.allowed = lambda: made.target * SLOT  # also while it is resized: never more, not for a moment
    made.resize(slots * SLOT)
    return made, memory


class Fetch(Future):
    """A fetch that is completed when the test says so, or when somebody waits for it."""

    def __init__(self, source: Source, key: Key, memory: Tensor):
        super().__init__()
        self.source, self.key, self.memory = source, key, memory

    def complete(self, error: Exception | None = None) -> None:
        self.source.under_way.remove(self)
        assert (self.memory == COMING).all(), "something else was written into a slot on its way"
        if error is None:
            self.memory.fill_(mark(self.key))
            self.set_result(None)
        else:
            self.set_exception(error)

    def exception(self, timeout=None):
        if not self.done():
            self.complete()
        return super().exception(timeout)


class Source:
    """In place of the threads: fetches are under way until they are completed."""

    def __init__(self):
        self.under_way: list[Fetch] = []
        self.started = 0

    def submit(self, fill, key: Key, memory: Tensor) -> Fetch:
        assert memory.data_ptr() not in {fetch.memory.data_ptr() for fetch in self.under_way}
        memory.fill_(COMING)
        self.started += 1
        self.under_way.append(Fetch(self, key, memory))
        return self.under_way[-1]

    def shutdown(self, **_) -> None:
        for fetch in list(self.under_way):
            fetch.complete()

    @staticmethod
    def wait_for(fetches: Sequence[Fetch], **_) -> None:
        fetches[0].complete()


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Source:
    """Have the caches of a test fetch from a source that the test completes, into chunks of a few slots."""
    source = Source()
    monkeypatch.setattr(cache_module, "CHUNK_BYTES", CHUNK * SLOT)
    monkeypatch.setattr(cache_module, "ThreadPoolExecutor", lambda *_, **__: source)
    monkeypatch.setattr(cache_module, "wait_for", source.wait_for)
    return source


def no_fill(key: Key, memory: Tensor) -> None:
    raise AssertionError("the source stands in for it")


class Disk(Exception):
    """What a fetch fails with."""


def use_all(cache: SlotCache, keys: Sequence[Key]) -> None:
    """Ask for the experts two by two, look at each, release them."""
    for index in range(0, len(keys), LEAST):
        pair = keys[index : index + LEAST]
        slots = cache.acquire(pair)
        for key, slot in zip(pair, slots, strict=True):
            assert (cache.wait(slot) == mark(key)).all()
        cache.release(slots)
