"""One budget for several pools: how it is dealt, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.experts.cache import BudgetError
from omni.experts.kernels import Floats, Unpacked
from omni.experts.record import ExpertShape, write
from omni.experts.residence import Experts, dealt_out
from omni.experts.slab import Pool, Slab
from omni.experts.slab_writer import SlabWriter

POOLS = (
    Pool("thinker", ("thinker.0.experts", "thinker.1.experts"), 6, ExpertShape(128, 128)),
    Pool("talker", ("talker.0.experts",), 4, ExpertShape(64, 64)),
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def slab_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("slab") / "experts.slab"
    generator = torch.Generator().manual_seed(61)
    with SlabWriter(path, "model", "rows", POOLS) as writer:
        for key in writer.missing():
            shape = POOLS[key[0]].shape
            record = torch.zeros(shape.record_bytes, dtype=torch.uint8)
            weights = (torch.randn(size, generator=generator) for size in shape.sizes)
            write(record, shape, *weights, "rows")
            writer.put(*key, record)
        writer.finish()
    return path


@pytest.fixture
def experts(slab_path) -> Iterator[Experts]:
    made = Experts(Slab.open(slab_path), Unpacked(torch.float32), CPU, [2, 2], "lfu")
    yield made
    made.close()


def slots(experts: Experts) -> list[int]:
    return [held.cache.target for held in experts.pools]


def test_all_experts_can_be_brought_before_they_are_asked_for(experts, slab_path):
    experts.bring_all()
    assert experts.bytes_held == experts.most_bytes
    for number, held in enumerate(experts.pools):
        for layer in range(len(held.pool.layers)):
            keys = [(layer, expert) for expert in range(held.pool.experts)]
            for key, slot in zip(keys, held.cache.acquire(keys), strict=True):
                true = torch.empty_like(slot.memory)
                experts.slab.read(number, *key, true)
                assert slot.coming is None and torch.equal(slot.memory, true)
                held.cache.release([slot])
    assert experts.counts().misses == 0 and experts.bytes_held == experts.most_bytes


def test_what_was_brought_makes_way_where_less_is_allowed(experts):
    experts.bring_all()
    experts.resize(experts.most_bytes // 2)
    held = experts.pools[0]
    for expert in (5, 0, 3):
        slots = held.cache.acquire([(1, expert), (1, expert - 1 if expert else 2)])
        assert [held.cache.wait(slot) is not None for slot in slots] == [True, True]
        held.cache.release(slots)
    assert held.cache.bytes_held <= held.budget


def test_all_experts_fit_unless_a_budget_is_set_and_none_is_read_before_it_is_needed(experts):
    assert slots(experts) == [12, 4]
    assert experts.budget == experts.most_bytes == 12 * POOLS[0].shape.record_bytes + 4 * POOLS[1].shape.record_bytes
    assert experts.bytes_held == 0
    assert "thinker: 0 of 12" not in experts.describe()


def test_a_budget_is_dealt_by_size_and_by_shares_where_they_are_given(experts):
    one, other = (pool.shape.record_bytes for pool in POOLS)
    spare = 4 * one
    experts.resize(experts.least_bytes + spare, {"thinker": 1, "talker": 0})
    assert slots(experts) == [6, 2]
    experts.resize(experts.least_bytes + spare, {"thinker": 0, "talker": 1})
    assert slots(experts) == [2, 4]
    experts.resize(experts.least_bytes + 2 * one + 2 * other, {"thinker": 2 * one, "talker": 2 * other})
    assert slots(experts) == [4, 4]
    experts.resize(10**12)
    assert slots(experts) == [12, 4]


def test_a_talker_comes_first(experts):
    """It makes several frames for each token that a thinker writes."""
    other = POOLS[1].shape.record_bytes
    experts.resize(experts.least_bytes + other + 100)
    assert slots(experts) == [2, 3]
    experts.resize(experts.least_bytes + 2 * other + 2 * POOLS[0].shape.record_bytes + 100)
    assert slots(experts) == [4, 4]


def test_a_budget_that_is_too_small_is_a_sentence_and_changes_nothing(experts):
    experts.resize(experts.least_bytes + 1000)
    before = slots(experts)
    with pytest.raises(BudgetError, match=r"0\.0 MB for experts are too little: .* one layer take 0\.1 MB"):
        experts.resize(experts.least_bytes - 1)
    assert slots(experts) == before


def test_what_is_in_memory_stays_within_what_was_dealt(experts):
    keys = [[(layer, expert) for layer in range(len(pool.layers)) for expert in range(pool.experts)] for pool in POOLS]
    for budget in (experts.most_bytes, experts.least_bytes, experts.most_bytes // 2):
        experts.resize(budget)
        assert experts.bytes_held <= budget
        for held, every in zip(experts.pools, keys, strict=True):
            for key in every:
                [slot] = held.cache.acquire([key])
                held.cache.wait(slot)
                held.cache.release([slot])
        assert experts.bytes_held <= experts.budget <= budget
    assert experts.counts().misses >= 16


def test_floats_in_the_slots_are_counted_as_floats(slab_path):
    experts = Experts(Slab.open(slab_path), Floats(torch.float32), CPU, [2, 2], "lfu")
    assert experts.most_bytes == 4 * sum(pool.records * pool.shape.parameters for pool in POOLS)
    [slot] = experts.pools[1].cache.acquire([(0, 3)])
    gate_up, down = experts.pools[1].cache.wait(slot)
    assert gate_up.shape == (128, 64)
    assert down.shape == (64, 64)
    assert gate_up.isfinite().all()
    experts.pools[1].cache.release([slot])
    experts.close()


@dataclass
class Wish:
    """What a pool takes at least and at most."""

    least_bytes: int
    most_bytes: int


POOL = st.tuples(st.integers(1, 1000), st.integers(0, 10_000)).map(lambda pair: Wish(pair[0], sum(pair)))


@given(
    pools=st.lists(POOL, min_size=1, max_size=4),
    spare=st.integers(0, 40_000),
    weights=st.lists(st.integers(0, 9), min_size=4, max_size=4),
)
@settings(derandomize=True, deadline=None)
def test_each_pool_gets_its_least_at_most_its_most_and_nothing_is_kept_back(pools, spare, weights):
    budget = sum(pool.least_bytes for pool in pools) + spare
    weights = weights[: len(pools)]
    dealt = dealt_out(budget, weights, pools)
    assert sum(dealt) <= budget
    for bytes_, pool, weight in zip(dealt, pools, weights, strict=True):
        assert pool.least_bytes <= bytes_ <= pool.most_bytes
        assert weight or bytes_ == pool.least_bytes
    wanted = sum(pool.most_bytes for pool, weight in zip(pools, weights, strict=True) if weight)
    wanted += sum(pool.least_bytes for pool, weight in zip(pools, weights, strict=True) if not weight)
    assert sum(dealt) > min(budget, wanted) - len(pools)  # a byte is lost to rounding in each


def test_a_pool_without_room_for_more_leaves_its_share_to_the_others():
    assert dealt_out(1000, [1, 1], [Wish(10, 50), Wish(10, 2000)]) == [50, 950]
    assert math.isclose(sum(dealt_out(1000, [1, 1, 1], [Wish(10, 20), Wish(10, 30), Wish(10, 2000)])), 1000)
