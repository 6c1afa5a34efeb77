"""Where experts live: slots of fast memory under a budget in bytes, filled from a slower tier when they are needed.

The same cache stands between file and RAM on a CPU, and between RAM and the GPU's memory. Entries in use are pinned,
each miss is one copy in and none back (weights are never written), and the budget may change at any time. Threads and
buffers are made when they are first needed, by the process that needs them, so a model may be forked before its first
token. What is cached changes how long an answer takes, never the answer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from torch import Tensor

from omni.experts.policy import Policy
from omni.experts.stats import PoolStats

CHUNK_BYTES = 32 << 20  # memory is taken and given back in pieces of about this size
READERS = 2  # threads that fetch

Key = tuple[int, int]  # layer, expert
Fill = Callable[[Key, Tensor], object]  # brings an expert into a slot; what it returns is handed to ``arrive``


class BudgetError(ValueError):
    """A budget that cannot work; the text names the one that would."""


@dataclass(eq=False)
class Slot:
    """Room for one expert. ``operand`` is the kernel's view of it."""

    memory: Tensor  # (slot bytes,) uint8
    chunk: int
    operand: object = None
    key: Key | None = None
    pins: int = 0
    coming: Future | None = None
    ahead: bool = False  # fetched before it was asked for, and not asked for since

    def wait(self) -> object:
        """Have the expert in place. Raises what the fetch raised."""
        return self.coming.result() if self.coming is not None else None


@dataclass
class Chunk:
    """Slots that are given back together."""

    slots: list[Slot] = field(default_factory=list)


class SlotCache:
    """The slots of one pool.

    State: the slots by key and the free ones, in chunks; the policy; the counters; how many slots there should be.
    ``most`` is the number of experts there are, ``least`` how many one layer needs at once.
    """

    def __init__(
        self,
        fill: Fill,
        make_memory: Callable[[int], Tensor],
        prepare: Callable[[Tensor], object],
        slot_bytes: int,
        policy: Policy,
        stats: PoolStats,
        least: int,
        arrive: Callable[[object], None] = lambda _: None,
    ):
        self.fill, self.make_memory, self.prepare, self.arrive = fill, make_memory, prepare, arrive
        self.slot_bytes, self.policy, self.stats = slot_bytes, policy, stats
        self.least, self.most = least, stats.layers * stats.experts
        self.target = 0
        self._oversized = False  # more slots than the target, because they were pinned when it shrank
        self._chunks: dict[int, Chunk] = {}
        self._chunk_number = 0
        self._free: list[Slot] = []
        self._slots: dict[Key, Slot] = {}
        self._lock = threading.RLock()
        self._readers: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    # ---- size ----------------------------------------------------------------------------------------------------

    @property
    def bytes_held(self) -> int:
        """Bytes of all slots, in use or free."""
        return sum(len(chunk.slots) for chunk in self._chunks.values()) * self.slot_bytes

    @property
    def complete(self) -> bool:
        """Whether there is room for every expert."""
        return self.target >= self.most

    @property
    def residents(self) -> int:
        return len(self._slots)

    def resize(self, budget: int) -> None:
        """Use at most ``budget`` bytes from now on; what is pinned now leaves when it is released.

        Raises BudgetError where the budget does not hold the experts of one layer.
        """
        count = min(self.most, budget // self.slot_bytes)
        if count < self.least:
            raise BudgetError(
                f"{budget / 1e6:.1f} MB are too little: the experts that one token needs in one layer take "
                f"{self.least * self.slot_bytes / 1e6:.1f} MB"
            )
        with self._lock:
            self.target = count
            self._shrink()

    def _size(self) -> int:
        return sum(len(chunk.slots) for chunk in self._chunks.values())

    def _shrink(self) -> None:
        """Give chunks back until the target is met, as far as pinned slots let it."""
        while (extra := self._size() - self.target) > 0:
            leaving = self._leaving_chunk()
            if leaving is None:
                self._oversized = True
                return
            chunk = self._chunks[leaving]
            if len(chunk.slots) > extra:  # the rest of it moves to a smaller chunk
                for slot in chunk.slots[-extra:]:
                    self._empty(slot)
                    self._free.remove(slot)
                rest = chunk.slots[:-extra]
                self._replace(leaving, rest)
            else:
                for slot in chunk.slots:
                    self._empty(slot)
                    self._free.remove(slot)
                del self._chunks[leaving]
        self._oversized = False

    def _leaving_chunk(self) -> int | None:
        """The chunk with the fewest residents of which none is in use or on its way."""
        still = {
            number: sum(slot.key is not None for slot in chunk.slots)
            for number, chunk in self._chunks.items()
            if not any(_busy(slot) for slot in chunk.slots)
        }
        return min(still, key=still.get) if still else None

    def _replace(self, number: int, kept: list[Slot]) -> None:
        """Copy the kept slots of a chunk into a chunk of their own and let the old one go."""
        fresh = self._new_chunk(len(kept))
        for old, new in zip(kept, fresh.slots, strict=True):
            if old.coming is not None:  # fetched ahead and never used
                self._empty(old)
            if old.key is None:
                self._free.remove(old)
                self._free.append(new)
                continue
            new.memory.copy_(old.memory)
            new.key, new.ahead = old.key, old.ahead
            self._slots[new.key] = new
        del self._chunks[number]

    def _new_chunk(self, count: int) -> Chunk:
        memory = self.make_memory(count * self.slot_bytes)
        self._chunk_number += 1
        pieces = memory.split(self.slot_bytes)
        chunk = Chunk([Slot(piece, self._chunk_number, self.prepare(piece)) for piece in pieces])
        self._chunks[self._chunk_number] = chunk
        return chunk

    # ---- use -----------------------------------------------------------------------------------------------------

    def acquire(self, keys: Sequence[Key], passing: bool = False) -> list[Slot]:
        """Pin the experts of ``keys``, all different; those that are not here start to come. ``wait`` on each slot.

        ``passing`` is for a prefill: what it fetches leaves first, so that it does not push out what decoding uses.
        """
        with self._lock:
            self._own_process()
            slots = [self._slots.get(key) for key in keys]
            for key, slot in zip(keys, slots, strict=True):  # pin the hits first: no miss shall take their place
                if slot is not None:
                    slot.pins += 1
                    self._count_hit(key, slot)
            for index, key in enumerate(keys):
                if slots[index] is None:
                    slots[index] = self._fetch_now(key, slots)
            if not self.complete:
                self._tell_policy(keys, passing)
            return slots

    def release(self, slots: Iterable[Slot]) -> None:
        """The experts of ``slots`` are not used any more just now."""
        with self._lock:
            for slot in slots:
                slot.pins -= 1
                if slot.key is None and not slot.pins:  # its fetch failed
                    self._free.append(slot)
            if self._oversized:
                self._shrink()

    def prefetch(self, keys: Iterable[Key]) -> None:
        """Start to fetch what will probably be needed, as far as it does not disturb what is in use."""
        with self._lock:
            self._own_process()
            for key in keys:
                if key in self._slots:
                    continue
                try:
                    self._fetch(key, ahead=True)
                except BudgetError:
                    return
                self.policy.touch(key)

    def wait(self, slot: Slot) -> object:
        """The operand of a pinned slot, once its expert is in place. Raises what the fetch raised, and forgets it."""
        coming = slot.coming
        if coming is None:
            return slot.operand
        started = time.perf_counter()
        try:
            arrived = coming.result()
        except BaseException:
            self._drop(slot)
            raise
        self.stats.at(slot.key[0]).stalled += time.perf_counter() - started
        self.arrive(arrived)
        with self._lock:
            slot.coming = None
        return slot.operand

    def _tell_policy(self, keys: Sequence[Key], passing: bool) -> None:
        for key in keys:
            if passing:
                self.policy.pass_by(key)
            else:
                self.policy.touch(key)
        if not passing:
            self.policy.tick()

    def _count_hit(self, key: Key, slot: Slot) -> None:
        counts = self.stats.at(key[0])
        counts.hits += 1
        if slot.ahead:
            counts.prefetched += 1
            slot.ahead = False

    def _fetch_now(self, key: Key, pinned: list[Slot | None]) -> Slot:
        """A pinned slot in which the expert of ``key`` is on its way; without one, what was pinned is let go."""
        try:
            slot = self._fetch(key, ahead=False)
        except BudgetError:
            self.release(slot for slot in pinned if slot is not None)
            raise
        slot.pins = 1
        self.stats.at(key[0]).misses += 1
        return slot

    def _fetch(self, key: Key, ahead: bool) -> Slot:
        """A slot in which the expert of ``key`` is on its way."""
        slot = self._take_slot()
        slot.key, slot.ahead = key, ahead
        self._slots[key] = slot
        self.stats.at(key[0]).bytes_read += self.slot_bytes
        slot.coming = self._readers.submit(self.fill, key, slot.memory)
        return slot

    def _take_slot(self) -> Slot:
        if self._free:
            return self._free.pop()
        if (room := self.target - self._size()) > 0:
            count = min(room, max(1, CHUNK_BYTES // self.slot_bytes))
            self._free += self._new_chunk(count).slots
            return self._free.pop()
        key = self.policy.victim(_Busy(self._slots))
        if key is None:
            raise BudgetError(f"all {self.target} experts in memory are in use at once")
        slot = self._slots[key]
        self._empty(slot)
        return self._free.pop()

    def _empty(self, slot: Slot) -> None:
        """Make a slot free, its expert forgotten."""
        if slot.key is not None:
            if slot.ahead:
                self.stats.at(slot.key[0]).wasted += 1
            self.policy.forget(slot.key)
            del self._slots[slot.key]
            slot.key, slot.ahead, slot.coming = None, False, None
            self._free.append(slot)

    def _drop(self, slot: Slot) -> None:
        """A fetch failed: its expert is forgotten, so that the next use tries again; the slot is free once released."""
        with self._lock:
            self.policy.forget(slot.key)
            self._slots.pop(slot.key, None)
            slot.key, slot.ahead, slot.coming = None, False, None

    def _own_process(self) -> None:
        """Threads do not survive a fork: have this process's own, and forget what the parent's were about to bring."""
        if self._readers is not None and self._process == os.getpid():
            return
        self._process = os.getpid()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="experts")
        for slot in [slot for slot in self._slots.values() if slot.coming is not None]:
            self._empty(slot)

    def close(self) -> None:
        """End the threads and let go of all memory."""
        with self._lock:
            if self._readers is not None and self._process == os.getpid():
                self._readers.shutdown()
            self._readers = None
            self._slots.clear()
            self._free.clear()
            self._chunks.clear()


class _Busy:
    """The keys whose slots may not be taken, as a container."""

    def __init__(self, slots: dict[Key, Slot]):
        self.slots = slots

    def __contains__(self, key: Key) -> bool:
        return _busy(self.slots[key])


def _busy(slot: Slot) -> bool:
    """Whether a slot is in use, or is being written."""
    return slot.pins > 0 or (slot.coming is not None and not slot.coming.done())
