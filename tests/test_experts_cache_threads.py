"""The slot cache with real threads and processes. Nothing sleeps: who waits, waits for an event."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from slot_cache import ALL, CHUNK, LEAST, SLOT, Disk, Memory, make_cache, mark, use_all
from torch import Tensor

from omni.experts import cache as cache_module
from omni.experts.cache import READERS, Fill, Key, SlotCache

PATIENCE = 120  # seconds after which a test has hung


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(cache_module, "CHUNK_BYTES", CHUNK * SLOT)


def threaded_cache(fill: Fill, policy: str = "lfu", slots: int = 6) -> tuple[SlotCache, Memory]:
    """A cache whose memory is only counted: the test and the threads may hold what it has just given back."""
    cache, memory = make_cache(fill, policy, slots)
    memory.allowed = lambda: 10**9
    return cache, memory


def fill(key: Key, memory: Tensor) -> None:
    memory[: SLOT // 2] = mark(key)
    memory[SLOT // 2 :] = mark(key)


class Gate:
    """A fill that stops in the middle of an expert until it is opened."""

    def __init__(self):
        self.reached, self.opened = threading.Semaphore(0), threading.Event()

    def __call__(self, key: Key, memory: Tensor) -> None:
        memory[: SLOT // 2] = mark(key)
        self.reached.release()
        assert self.opened.wait(PATIENCE)
        memory[SLOT // 2 :] = mark(key)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def in_thread(work: Callable) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_asking_does_not_wait_and_waiting_does(gate):
    cache, _ = threaded_cache(gate)
    slots = cache.acquire(ALL[:2])
    assert not any(slot.coming.done() for slot in slots)
    waited = threading.Event()
    thread = in_thread(lambda: (cache.wait(slots[0]), waited.set()))
    for _ in range(READERS):
        assert gate.reached.acquire(timeout=PATIENCE)
    assert not waited.is_set()
    gate.opened.set()
    thread.join(PATIENCE)
    assert waited.is_set()
    assert (slots[0].memory == mark(ALL[0])).all()
    cache.release(slots)
    cache.close()


def test_memory_shrinks_from_another_thread_once_what_is_pinned_is_released(gate):
    gate.opened.set()
    cache, _ = threaded_cache(gate, slots=6)
    use_all(cache, ALL[:6])
    pinned = cache.acquire([ALL[2], ALL[5]])  # one in each chunk
    in_thread(lambda: cache.resize(LEAST * SLOT)).join(PATIENCE)
    assert cache.bytes_held == 6 * SLOT
    assert [int(cache.wait(slot)[0]) for slot in pinned] == [mark(ALL[2]), mark(ALL[5])]
    cache.prefetch(ALL[6:8])  # must not keep the memory busy
    cache.release(pinned)
    assert cache.bytes_held <= LEAST * SLOT
    use_all(cache, ALL)
    cache.close()


@pytest.mark.parametrize("policy", ["lru", "lfu"])
def test_resizing_from_another_thread_never_disturbs_what_is_read(policy):
    """Seed 5. Four hundred steps of a model that looks ahead, beside a thread that resizes in each of them."""
    cache, memory = threaded_cache(fill, policy, slots=8)
    draw, step, resized = random.Random(5), threading.Semaphore(0), []

    def resize() -> None:
        sizes = random.Random(6)
        for _ in range(400):
            assert step.acquire(timeout=PATIENCE)
            cache.resize(sizes.randint(LEAST, len(ALL)) * SLOT)
            resized.append(cache.bytes_held)

    thread = in_thread(resize)
    try:
        for _ in range(400):
            step.release()  # the other thread resizes while this one goes on
            keys = draw.sample(ALL, LEAST)
            slots = cache.acquire(keys, passing=draw.random() < 0.3)
            cache.prefetch(draw.sample(ALL, LEAST))
            for key, slot in zip(keys, slots, strict=True):
                assert (cache.wait(slot) == mark(key)).all()
            cache.release(slots)
    finally:
        thread.join(PATIENCE)
    total = cache.stats.total()
    assert len(resized) == 400
    assert total.hits + total.misses == 400 * LEAST
    cache.resize(LEAST * SLOT)
    use_all(cache, ALL)
    assert cache.bytes_held <= LEAST * SLOT
    cache.close()
    del slots, slot
    assert memory.alive == 0


def test_threads_that_share_a_cache_read_what_they_asked_for_and_every_failure_is_told():
    """Seeds 0 to 3. Every third fetch fails; four threads, each with one expert pinned, fit a memory of eight."""
    fetched = iter(range(10**9))

    def failing(key: Key, memory: Tensor) -> None:
        fill(key, memory)
        if next(fetched) % 3 == 2:
            memory.zero_()
            raise Disk(str(key))

    cache, _ = threaded_cache(failing, slots=8)

    def work(seed: int) -> tuple[int, int]:
        draw, right, failed = random.Random(seed), 0, 0
        for _ in range(150):
            key = draw.choice(ALL)
            [slot] = cache.acquire([key])
            try:
                right += bool((cache.wait(slot) == mark(key)).all())
            except Disk as error:
                assert str(error) == str(key)
                failed += 1
            cache.release([slot])
        return right, failed

    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(work, range(4)))
    assert [right + failed for right, failed in counts] == [150] * 4
    assert sum(failed for _, failed in counts) > 0
    total = cache.stats.total()
    assert total.hits + total.misses == 600
    assert len(cache._free) + cache.residents == cache._size()
    cache.close()


def test_closing_ends_the_threads_and_frees_the_memory():
    cache, memory = threaded_cache(fill)
    use_all(cache, ALL)
    threads = list(cache._readers._threads)
    assert 0 < len(threads) <= READERS
    cache.close()
    assert not any(thread.is_alive() for thread in threads)
    assert memory.alive == cache.bytes_held == cache.residents == 0
    cache.close()
    use_all(cache, ALL)  # as if it were new
    cache.close()


# ---- forks -----------------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> object:
    """What ``work`` returns in a forked process."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=lambda: there.send(work()), daemon=True)
    process.start()
    try:
        assert here.poll(PATIENCE), "the forked process hangs or has died"
        return here.recv()
    finally:
        process.kill()
        process.join(PATIENCE)


def used_in_child(cache: SlotCache) -> tuple[list[int], int, int]:
    """Look at every expert: their bytes, the size of the memory, the process whose threads fetched."""
    seen = []
    for key in ALL:
        [slot] = cache.acquire([key])
        seen.append(int(cache.wait(slot).sum()))
        cache.release([slot])
    return seen, cache._size(), cache._process


RIGHT = [mark(key) * SLOT for key in ALL]


def test_a_fork_before_the_first_use_makes_its_own_threads():
    cache, _ = threaded_cache(fill)
    seen, size, process = in_child(lambda: used_in_child(cache))
    assert (seen, size) == (RIGHT, 6)
    assert process != os.getpid()
    assert not cache._readers._threads


def test_a_fork_forgets_what_its_parent_had_pinned_and_on_its_way(gate):
    """The parent's thread stands in the middle of an expert; half of it must not be taken for the whole."""
    cache, _ = threaded_cache(gate, slots=LEAST)
    slots = cache.acquire(ALL[:2])
    assert gate.reached.acquire(timeout=PATIENCE)

    def work() -> tuple[list[int], int, int]:
        gate.opened.set()  # of this process
        return used_in_child(cache)

    seen, size, _ = in_child(work)
    assert (seen, size) == (RIGHT, LEAST)
    gate.opened.set()
    assert [int(cache.wait(slot).sum()) for slot in slots] == RIGHT[:2]  # the parent's went on
    cache.release(slots)
    cache.close()


def test_a_fork_while_a_thread_changes_the_cache_finds_it_whole_and_open():
    """The thread stands in the middle of a change until the fork begins."""
    cache, memory = threaded_cache(fill)
    inside, forking = threading.Event(), threading.Event()
    os.register_at_fork(before=forking.set)  # what is registered last runs first
    plain = cache.make_memory

    def slow(size: int) -> Tensor:
        inside.set()
        assert forking.wait(PATIENCE)
        return plain(size)

    cache.make_memory = slow
    thread = in_thread(lambda: use_all(cache, ALL[:1]))
    assert inside.wait(PATIENCE)
    seen, _, _ = in_child(lambda: used_in_child(cache))
    thread.join(PATIENCE)
    assert seen == RIGHT
    use_all(cache, ALL)
    cache.close()


def test_a_fork_may_shrink_or_close_what_its_parent_is_filling(gate):
    """Guards: it waited for threads that only its parent has."""
    cache, _ = threaded_cache(gate)
    cache.prefetch(ALL[:6])
    assert gate.reached.acquire(timeout=PATIENCE)

    def shrink() -> int:
        cache.resize(LEAST * SLOT)
        return cache.bytes_held

    def close() -> int:
        cache.close()
        return cache.bytes_held

    assert in_child(shrink) <= LEAST * SLOT
    assert in_child(close) == 0
    gate.opened.set()
    cache.close()


def test_a_fork_may_use_what_its_parent_had_pinned():
    cache, _ = threaded_cache(fill, slots=LEAST)
    slots = cache.acquire(ALL[:2])
    for slot in slots:
        cache.wait(slot)
    assert in_child(lambda: used_in_child(cache))[0] == RIGHT
    cache.release(slots)
    cache.close()


def test_a_fork_finds_what_its_parent_had_in_place():
    cache, _ = threaded_cache(fill, slots=len(ALL))
    use_all(cache, ALL)
    cache.fill = None  # there is nothing left to fetch
    assert in_child(lambda: used_in_child(cache))[0] == RIGHT
    cache.close()
