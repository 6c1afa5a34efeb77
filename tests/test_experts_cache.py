"""The slot cache, one claim at a time, on fetches that the test completes; most claims guard a bug that was there."""

from __future__ import annotations

import pytest
from slot_cache import ALL, SLOT, Disk, Source, make_cache, mark, no_fill, stand_in, use_all

from omni.experts.cache import BudgetError


@pytest.fixture
def source(monkeypatch) -> Source:
    return stand_in(monkeypatch)


def test_a_cache_that_held_everything_goes_on_after_it_shrank(source):
    """Guards: while all experts fit, the policy was told of none, and then had nobody to name."""
    cache, _ = make_cache(no_fill, slots=len(ALL))
    use_all(cache, ALL)
    cache.resize(5 * SLOT)
    use_all(cache, ALL * 2)


def test_experts_fetched_ahead_that_fill_the_memory_make_way(source):
    """Guards: slots on their way counted as in use, and an answer failed for want of memory."""
    cache, _ = make_cache(no_fill, slots=2)
    cache.prefetch(ALL[:2])
    assert len(source.under_way) == 2
    use_all(cache, ALL[4:6])
    assert cache.stats.total().wasted == 2


def test_a_shrink_waits_for_what_nobody_asked_for(source):
    """Guards: shrunk after an answer, with a guess on its way, the memory stayed until the next answer."""
    cache, memory = make_cache(no_fill, slots=6)
    cache.prefetch([ALL[0], *ALL[3:6]])
    cache.resize(2 * SLOT)
    assert memory.alive <= 2 * SLOT


def test_nothing_is_fetched_ahead_while_everything_is_pinned(source):
    cache, _ = make_cache(no_fill, slots=2)
    slots = cache.acquire(ALL[:2])
    cache.prefetch(ALL[2:6])
    assert source.started == 2
    cache.release(slots)


def test_an_expert_is_fetched_once_however_often_it_is_asked_for(source):
    cache, _ = make_cache(no_fill)
    cache.prefetch([ALL[3], ALL[3]])
    cache.prefetch([ALL[3]])
    [first] = cache.acquire([ALL[3]])
    [second] = cache.acquire([ALL[3]])
    assert first is second
    assert source.started == 1
    assert cache.stats.total().prefetched == 1
    cache.wait(first)
    cache.release([first, second])


def test_the_expected_do_not_push_each_other_out(source):
    cache, _ = make_cache(no_fill, slots=3)
    use_all(cache, ALL[:2])
    cache.prefetch([ALL[0], ALL[1], ALL[5], ALL[6]])
    for fetch in list(source.under_way):
        fetch.complete()
    cache.prefetch([ALL[0], ALL[1], ALL[5], ALL[6]])
    assert set(cache._slots) == {ALL[0], ALL[1], ALL[5]}


def test_what_was_expected_in_vain_leaves_first(source):
    """Guards: a guess counted as a use, so that experts often guessed and never used stayed."""
    cache, _ = make_cache(no_fill, slots=4)
    use_all(cache, ALL[:3])
    for _ in range(5):
        cache.prefetch([ALL[7]])
        for fetch in list(source.under_way):
            fetch.complete()
        use_all(cache, ALL[8:9])
    use_all(cache, ALL[9:10])
    assert {*ALL[1:3], *ALL[8:10]} == set(cache._slots)  # it took the place of one, however often it was guessed


def test_what_was_used_last_stays_and_what_passed_leaves(source):
    cache, _ = make_cache(no_fill, "lru", slots=4)
    for keys, passing in ((ALL[0:1], False), (ALL[1:2], False), (ALL[2:4], True), (ALL[0:1], False)):
        cache.release(cache.acquire(keys, passing))
    for fetch in list(source.under_way):
        fetch.complete()
    left = []
    for key in ALL[4:7]:
        before = set(cache._slots)
        use_all(cache, [key])
        left += before - set(cache._slots)
    assert left == [ALL[2], ALL[3], ALL[1]]
    assert cache.policy.clock == 6  # the groups that were used, not the one that passed


def test_a_fetch_ahead_that_failed_unseen_leaves_no_trace(source):
    cache, _ = make_cache(no_fill, slots=2)
    cache.prefetch(ALL[:2])
    for fetch in list(source.under_way):
        fetch.complete(Disk("unreadable"))
    use_all(cache, ALL[2:6])


def test_whoever_waits_for_a_failed_fetch_is_told_and_the_next_one_tries_again(source):
    """Guards: the second of two that waited read what was in the slot."""
    cache, _ = make_cache(no_fill, slots=2)
    [first], [second] = cache.acquire(ALL[:1]), cache.acquire(ALL[:1])
    [other] = cache.acquire(ALL[1:2])
    source.under_way[0].complete(Disk("unreadable"))
    for slot in (first, second):
        with pytest.raises(Disk, match="unreadable"):
            cache.wait(slot)
    assert (cache.wait(other) == mark(ALL[1])).all()
    cache.release([first, other])
    with pytest.raises(BudgetError):
        cache.acquire(ALL[2:4])  # the second one is not released yet
    cache.release([second])
    use_all(cache, ALL[:2])
    assert cache.bytes_held == 2 * SLOT


def test_an_interrupted_wait_does_not_free_a_slot_that_is_still_written(source, monkeypatch):
    """Guards: after Ctrl-C the slot was given to another expert, and two fetches wrote into it."""
    cache, _ = make_cache(no_fill, slots=2)
    slots = cache.acquire(ALL[:2])

    def interrupted(timeout=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(slots[0].coming, "exception", interrupted)
        patch.setattr(slots[0].coming, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.wait(slots[0])
    cache.release(slots)
    assert len(source.under_way) == 2
    use_all(cache, ALL[2:6])  # the source sees to it that no slot is written twice at once


def test_where_a_fetch_cannot_be_started_nobody_finds_the_expert_in_place(source, monkeypatch):
    """Guards: a slot that had its key before its fetch was under way was a hit, with anything in it."""
    cache, _ = make_cache(no_fill)

    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    [there] = cache.acquire(ALL[:1])
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="new thread"):
        patch.setattr(source, "submit", no_thread)
        cache.acquire(ALL[:2])
    assert there.pins == 1
    cache.wait(there)
    cache.release([there])
    use_all(cache, ALL)


def test_memory_that_cannot_be_had_leaves_nothing_pinned(source):
    cache, memory = make_cache(no_fill, slots=6)
    [held] = cache.acquire(ALL[:1])
    cache.acquire(ALL[1:3])
    memory.allowed = lambda: 0
    with pytest.raises(AssertionError):
        cache.acquire([ALL[0], ALL[5]])
    assert held.pins == 1


def test_no_memory_is_given_back_under_a_copy(source):
    """On a GPU a fetch is complete when its copy has been ordered; ``arrive`` has the computation wait for it."""
    arrived: list[object] = []
    cache, _ = make_cache(no_fill, slots=6, arrive=arrived.append)
    cache.prefetch(ALL[:6])
    for fetch in list(source.under_way):
        fetch.complete()
    cache.resize(3 * SLOT)
    assert len(arrived) == 3


def test_a_budget_below_one_layer_is_a_sentence_with_the_number_that_works():
    cache, _ = make_cache(no_fill)
    sentence = "29.9 MB for experts are too little: those that one token needs in one layer take 30.1 MB"
    cache.slot_bytes, cache.least = 3_001_000, 10  # 30.01 MB: what is named must be enough
    with pytest.raises(BudgetError, match=sentence):
        cache.resize(29_999_999)
    assert issubclass(BudgetError, ValueError)
