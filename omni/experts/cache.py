"""Where experts live: slots of fast memory under a budget in bytes, filled from a slower tier when they are needed.

The same cache stands between file and RAM on a CPU, and between RAM and the GPU's memory. Entries in use are pinned,
each miss is one copy in and none back (weights are never written), and the budget may change at any time. Threads and
buffers are made when they are first needed, by the process that needs them, so a model may be forked before its first
token. What is cached changes how long an answer takes, never the answer.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from weakref import WeakValueDictionary

from torch import Tensor

from omni.experts.policy import Policy
from omni.experts.stats import PoolStats

CHUNK_BYTES = 32 << 20  # memory is taken and given back in pieces of about this size
READERS = 2  # threads that fetch

Key = tuple[int, int]  # layer, expert
Fill = Callable[[Key, Tensor], object]  # brings an expert into a slot; what it returns is handed to ``arrive``


class BudgetError(ValueError):
    """A budget that cannot work; the text names the one that would."""


def too_little(budget: int, least: int) -> BudgetError:
    """Why ``budget`` bytes are refused where ``least`` would do, rounded so that what is named really does."""
    return BudgetError(
        f"{budget // 10**5 / 10:.1f} MB for experts are too little: those that one token needs in one layer take "
        f"{-(-least // 10**5) / 10:.1f} MB"
    )


@dataclass(eq=False)
class Slot:
    """Room for one expert. ``operand`` is the kernel's view of it, ``coming`` the last fetch until it is waited for."""

    memory: Tensor  # (slot bytes,) uint8
    chunk: int
    operand: object = None
    key: Key | None = None
    pins: int = 0
    coming: Future | None = None
    ahead: bool = False  # fetched before it was asked for, and not asked for since


class SlotCache:
    """The slots of one pool.

    State: the slots by key and the free ones, in chunks that are given back as a whole; the policy, which knows every
    key that has a slot; the counters; how many slots there should be.
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
        asked: Callable[[Fill], Fill] = lambda fill: fill,
    ):
        """``asked`` is called by the thread that asks for an expert, and may tell ``fill`` what that thread knows."""
        self.fill, self.make_memory, self.prepare = fill, make_memory, prepare
        self.arrive, self.asked = arrive, asked
        self.slot_bytes, self.policy, self.stats = slot_bytes, policy, stats
        self.least, self.most = least, stats.layers * stats.experts
        self.target = 0
        self._oversized = False  # more slots than the target, because they were pinned when it shrank
        self._chunks: dict[int, list[Slot]] = {}
        self._chunk_number = 0
        self._adopted: list[tuple[Sequence[Key], Tensor]] = []
        self._free: list[Slot] = []
        self._slots: dict[Key, Slot] = {}
        self._lock = threading.RLock()
        self._readers: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        _caches[next(_numbers)] = self

    # ---- size ----------------------------------------------------------------------------------------------------

    @property
    def bytes_held(self) -> int:
        """Bytes of all slots, in use or free."""
        with self._lock:
            return (self._size() + sum(len(keys) for keys, _ in self._adopted)) * self.slot_bytes

    @property
    def complete(self) -> bool:
        """Whether there is room for every expert."""
        return self.target >= self.most

    @property
    def residents(self) -> int:
        return len(self._slots)

    def present(self) -> list[Key]:
        """The experts that are here or on their way."""
        with self._lock:
            return list(self._slots)

    def resize(self, budget: int) -> None:
        """Use at most ``budget`` bytes from now on; what is pinned now leaves when it is released.

        Raises BudgetError where the budget does not hold the experts of one layer.
        """
        count = min(self.most, budget // self.slot_bytes)
        if count < self.least:
            raise too_little(budget, self.least * self.slot_bytes)
        with self._lock:
            self._own_process()
            self.target = count
            self._shrink()
            while self._oversized and (coming := self._unclaimed()):  # what nobody waits for is in the way for a moment
                wait_for(coming, return_when=FIRST_COMPLETED)
                self._shrink()

    def _size(self) -> int:
        return sum(len(slots) for slots in self._chunks.values())

    def _shrink(self) -> None:
        """Give chunks back until the target is met, as far as slots in use or on their way let it.

        What else is in a chunk is lost, and its place is taken up again when it is needed: to move it would take more
        memory than the budget for a moment.
        """
        self._oversized = False
        while self._size() > self.target:
            leaving = self._leaving_chunk()
            if leaving is None:
                self._oversized = True
                return
            self._give_back(leaving)

    def _leaving_chunk(self) -> int | None:
        """The chunk with the fewest residents of which none is in use or on its way."""
        still = {
            number: sum(slot.key is not None for slot in slots)
            for number, slots in self._chunks.items()
            if not any(_busy(slot) for slot in slots)
        }
        return min(still, key=still.get) if still else None

    def _give_back(self, number: int) -> None:
        """Let go of a chunk's memory. A GPU's is used by others at once: no copy into it may be under way then."""
        for slot in self._chunks.pop(number):
            if (coming := slot.coming) and coming.done() and not coming.cancelled() and coming.exception() is None:
                self.arrive(slot.coming.result())
            self._empty(slot)
        self._free = [slot for slot in self._free if slot.chunk != number]

    def _new_chunk(self, count: int) -> list[Slot]:
        return self._slots_of(self.make_memory(count * self.slot_bytes))

    def _slots_of(self, memory: Tensor) -> list[Slot]:
        self._chunk_number += 1
        pieces = memory.split(self.slot_bytes)
        slots = [Slot(piece, self._chunk_number, self.prepare(piece)) for piece in pieces]
        self._chunks[self._chunk_number] = slots
        return slots

    def adopt(self, chunks: Sequence[tuple[Sequence[Key], Tensor]]) -> None:
        """Have experts from the start: of each chunk, whose slots lie in it one behind the other, and its memory.

        The slots are made where they are first used: until then the memory may be moved, and it is where a GPU is lent.
        """
        with self._lock:
            self._adopted, self.target = list(chunks), self.most

    def _take_up(self) -> None:
        """Make slots of what was adopted."""
        while self._adopted:
            keys, memory = self._adopted.pop()
            for key, slot in zip(keys, self._slots_of(memory), strict=True):
                slot.key = key
                self._slots[key] = slot
                self.policy.pass_by(key)
        self._shrink()

    # ---- use -----------------------------------------------------------------------------------------------------

    def acquire(self, keys: Sequence[Key], passing: bool = False) -> list[Slot]:
        """Pin the experts of ``keys``, all different; those that are not here start to come. ``wait`` on each slot.

        ``passing`` is for a prefill: what it fetches leaves first, so that it does not push out what decoding uses.
        """
        with self._lock:
            self._own_process()
            if self._adopted:
                self._take_up()
            there = [self._standing(key) for key in keys]
            for slot in there:  # pin the hits first: no miss shall take their place
                if slot is not None:
                    slot.pins += 1
            slots = there.copy()
            try:
                for index, key in enumerate(keys):
                    if slots[index] is None:
                        slots[index] = self._fetch(key)
                        slots[index].pins = 1
            except BaseException:
                self.release(slot for slot in slots if slot is not None)
                raise
            for key, slot in zip(keys, there, strict=True):
                self._count(key, slot)
            if not passing and not self.complete:
                for key in keys:
                    self.policy.touch(key)
                self.policy.tick()
            return slots

    def release(self, slots: Iterable[Slot]) -> None:
        """The experts of ``slots`` are not used any more just now."""
        with self._lock:
            for slot in slots:
                slot.pins -= 1
                if slot.key is None and not slot.pins and slot.chunk in self._chunks:  # its fetch failed
                    slot.coming = None
                    self._free.append(slot)
            if self._oversized:
                self._shrink()

    def prefetch(self, keys: Sequence[Key]) -> None:
        """Start to fetch what will probably be needed, as far as it does not disturb what is in use.

        None of ``keys`` makes way for another of them, and those that are not asked for soon leave first.
        """
        with self._lock:
            self._own_process()
            if self._oversized:  # what is on its way would keep memory from being given back
                return
            for key in keys:
                if key in self._slots:
                    continue
                try:
                    self._fetch(key, spared=keys).ahead = True
                except BudgetError:
                    return

    def wait(self, slot: Slot) -> object:
        """The operand of a pinned slot, once its expert is in place. Raises what the fetch raised, and forgets it."""
        coming = slot.coming
        if coming is None:
            return slot.operand
        started = time.perf_counter()
        error = coming.exception()  # an interrupt is raised here and changes nothing: the slot is still being written
        if error is not None:
            self._drop(slot)
            try:
                raise error
            finally:
                del error, coming, slot  # the error holds this frame: its memory would stay until the next collection
        self.arrive(coming.result())
        with self._lock:
            self.stats.at(slot.key[0]).stalled += time.perf_counter() - started
            slot.coming = None
        return slot.operand

    def _standing(self, key: Key) -> Slot | None:
        """The slot of ``key``; none where its fetch failed and nobody waited for it, so that it is tried again."""
        slot = self._slots.get(key)
        if slot is None or slot.pins or slot.coming is None or not slot.coming.done() or not slot.coming.exception():
            return slot
        slot.coming = None
        self._empty(slot)
        return None

    def _count(self, key: Key, slot: Slot | None) -> None:
        """``key`` was asked for, and was or was not there."""
        counts = self.stats.at(key[0])
        if slot is None:
            counts.misses += 1
            return
        counts.hits += 1
        if slot.ahead:
            counts.prefetched += 1
            slot.ahead = False

    def _fetch(self, key: Key, spared: Container[Key] | None = None) -> Slot:
        """A slot in which the expert of ``key`` is on its way; see ``_take_slot``."""
        slot = self._take_slot(key, spared)
        fill = self.asked(self.fill)
        slot.coming = self._readers.submit(fill, key, slot.memory)  # where this fails, nobody has the slot
        slot.key = key
        self._slots[key] = slot
        self.policy.pass_by(key)
        self.stats.at(key[0]).bytes_read += self.slot_bytes
        return slot

    def _take_slot(self, wanted: Key, spared: Container[Key] | None) -> Slot:
        """A slot without a key for ``wanted``, that of the least worthy expert if need be.

        With ``spared``, keys that must stay, it does not wait for slots that are still being written. Raises
        BudgetError where there is none.
        """
        if self._free:
            return self._free.pop()
        if (room := self.target - self._size()) > 0:
            count = min(room, max(1, CHUNK_BYTES // self.slot_bytes))
            self._free += self._new_chunk(count)
            return self._free.pop()
        while (key := self.policy.victim(_Busy(self._slots, spared or ()), wanted)) is None:
            coming = self._unclaimed()
            if spared is not None or not coming:
                raise BudgetError(f"all {self.target} experts in memory are in use at once")
            wait_for(coming, return_when=FIRST_COMPLETED)
        self._empty(self._slots[key])
        return self._free.pop()

    def _unclaimed(self) -> list[Future]:
        """The fetches under way that nobody asked for yet."""
        return [slot.coming for slot in self._slots.values() if not slot.pins and _busy(slot)]

    def _empty(self, slot: Slot) -> None:
        """Make a slot free, its expert forgotten."""
        if slot.key is not None:
            if slot.ahead:
                self.stats.at(slot.key[0]).wasted += 1
            self.policy.forget(slot.key)
            del self._slots[slot.key]
            slot.key, slot.ahead = None, False
            self._free.append(slot)

    def _drop(self, slot: Slot) -> None:
        """A fetch failed: its expert is forgotten, so that the next use tries again; the slot is free once released.

        The failed fetch stays with it, for whoever else waits for it.
        """
        with self._lock:
            if slot.key is not None:
                self.policy.forget(slot.key)
                del self._slots[slot.key]
                slot.key = None

    def _own_process(self) -> None:
        """Threads do not survive a fork: have this process's own, and forget what the parent's held or would bring."""
        if self._readers is not None and self._process == os.getpid():
            return
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="experts")
        if self._process != os.getpid():
            self._process = os.getpid()
            every = [slot for slots in self._chunks.values() for slot in slots]
            for slot in every:
                slot.pins = 0
                if slot.coming is not None:
                    self._empty(slot)
                    slot.coming = None
            self._free = [slot for slot in every if slot.key is None]

    def close(self) -> None:
        """End the threads and let go of all memory."""
        with self._lock:
            if self._readers is not None and self._process == os.getpid():
                self._readers.shutdown(cancel_futures=True)
            self._readers = None
            for number in list(self._chunks):
                self._give_back(number)


class _Busy:
    """The keys whose slots may not be taken, as a container."""

    def __init__(self, slots: dict[Key, Slot], spared: Container[Key]):
        self.slots, self.spared = slots, spared

    def __contains__(self, key: Key) -> bool:
        return key in self.spared or _busy(self.slots[key])


def _busy(slot: Slot) -> bool:
    """Whether a slot is in use, or is being written."""
    return slot.pins > 0 or (slot.coming is not None and not slot.coming.done())


# A process that is forked while another thread changes a cache would have half a change, and a lock that nobody opens.
_numbers = itertools.count()
_caches: WeakValueDictionary[int, SlotCache] = WeakValueDictionary()
_forking = threading.local()


def _hold_all() -> None:
    _forking.caches = list(_caches.values())[::-1]  # a tier is made before the one above it, which may wait for it
    for cache in _forking.caches:
        cache._lock.acquire()


def _let_all_go() -> None:
    for cache in _forking.caches:
        cache._lock.release()
    _forking.caches = []


os.register_at_fork(before=_hold_all, after_in_parent=_let_all_go, after_in_child=_let_all_go)
