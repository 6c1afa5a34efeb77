"""The counters of the experts engine, and its log of who took what."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.experts.stats import PHASES, Counts, PoolStats, RoutingLog, mutual_information, shares_of

LAYERS, EXPERTS = 3, 4
derandomised = settings(derandomize=True, deadline=None)


@given(st.lists(st.tuples(st.sampled_from(PHASES), st.integers(0, LAYERS - 1), st.integers(0, 9)), max_size=30))
@derandomised
def test_counts_add_up_by_phase_and_by_layer(events):
    stats = PoolStats(LAYERS, EXPERTS)
    for phase, layer, number in events:
        stats.phase = phase
        stats.at(layer).hits += number
        stats.at(layer).misses += 1
        stats.at(layer).bytes_read += 100
    for phase in PHASES:
        assert stats.total(phase).hits == sum(number for one, _, number in events if one == phase)
        assert stats.total(phase).misses == sum(one == phase for one, _, _ in events)
    assert stats.total() == stats.total("prefill") + stats.total("decode")
    assert stats.total().bytes_read == 100 * len(events)
    rows = list(stats.rows())
    assert [(row["phase"], row["layer"]) for row in rows] == [
        (phase, layer) for phase in PHASES for layer in range(LAYERS)
    ]
    assert sum(row["hits"] for row in rows) == stats.total().hits
    assert [row["misses"] for row in rows] == [
        sum((phase, layer) == (one, two) for one, two, _ in events) for phase in PHASES for layer in range(LAYERS)
    ]


def test_all_counters_are_added_and_what_was_counted_before_can_be_taken_away():
    ones = Counts(*range(1, 1 + len(dataclasses.fields(Counts))))
    assert dataclasses.astuple(ones + ones) == tuple(2 * value for value in dataclasses.astuple(ones))
    assert ones + ones - ones == ones
    assert ones + Counts() == ones


def test_a_hit_rate_is_a_share_of_what_was_asked_for_and_zero_before():
    assert Counts(hits=3, misses=1).hit_rate == 0.75
    assert Counts().hit_rate == 0.0


def test_counters_start_again_at_zero_after_a_reset():
    stats = PoolStats(LAYERS, EXPERTS)
    stats.at(1).hits = 5
    stats.reset()
    assert stats.total() == Counts()


# ---- who took what ---------------------------------------------------------------------------------------------------


def opened() -> RoutingLog:
    log = RoutingLog(LAYERS, EXPERTS)
    log.open()
    return log


def forward(log: RoutingLog, *chosen: list[list[int]]) -> None:
    """A forward pass: what each layer chose."""
    for layer, experts in enumerate(chosen):
        log.note(layer, experts)


def taken(log: RoutingLog) -> list:
    return [one.tolist() for one in log.take()]


def test_nothing_is_logged_until_the_log_is_opened_and_after_it_is_closed():
    log = RoutingLog(LAYERS, EXPERTS)
    forward(log, [[0, 1]], [[2, 3]], [[0, 2]])
    assert log.take() == []
    log.open()
    forward(log, [[0, 1]], [[2, 3]], [[0, 2]])
    log.close()
    forward(log, [[0, 1]], [[2, 3]], [[0, 2]])
    assert log.take() == []


def test_a_log_is_a_trace_token_by_token_and_layer_by_layer_and_each_is_taken_once():
    log = opened()
    forward(log, [[0, 1], [2, 3]], [[1, 2], [3, 0]], [[0, 2], [1, 3]])
    forward(log, [[3, 1]], [[2, 0]], [[1, 0]])
    assert taken(log) == [[[[0, 1], [1, 2], [0, 2]], [[2, 3], [3, 0], [1, 3]]], [[[3, 1], [2, 0], [1, 0]]]]
    assert taken(log) == []


def test_a_pass_is_taken_when_it_went_through_all_layers():
    log = opened()
    log.note(0, [[0, 1]])
    assert taken(log) == []
    log.note(1, [[2, 3]])
    log.note(2, [[0, 2]])
    assert taken(log) == [[[[0, 1], [2, 3], [0, 2]]]]


def test_a_pass_that_broke_off_is_left_out():
    """Guards: a reply that ran out of memory in the middle of a pass, and was tried again."""
    log = opened()
    forward(log, [[0, 1]], [[2, 3]])
    forward(log, [[3, 1]], [[2, 0]], [[1, 0]])
    assert taken(log) == [[[[3, 1], [2, 0], [1, 0]]]]


def test_a_log_opened_in_the_middle_of_a_forward_pass_begins_with_the_next_one():
    log = RoutingLog(LAYERS, EXPERTS)
    log.note(0, [[0, 1]])
    log.open()
    log.note(1, [[0, 1]])
    log.note(2, [[0, 1]])
    forward(log, [[0, 1]], [[2, 3]], [[0, 2]])
    assert taken(log) == [[[[0, 1], [2, 3], [0, 2]]]]


def test_a_batch_of_nothing_is_logged_as_nothing():
    log = opened()
    forward(log, [], [], [])
    assert taken(log) == []


def test_each_token_counts_for_its_modality_and_its_experts():
    chosen = np.array([[[0, 1], [0, 2]], [[2, 3], [1, 2]], [[3, 2], [1, 3]], [[-1, -1], [-1, -1]]], np.int16)
    shares = shares_of(chosen, [0, 1, 1, 1], 2, EXPERTS)
    assert shares[0].tolist() == [[1, 1, 0, 0], [0, 0, 2, 2]]
    assert shares[1].tolist() == [[1, 0, 1, 0], [0, 2, 1, 1]]


def test_experts_used_alike_by_all_modalities_tell_nothing_of_them():
    shares = np.array([[[4, 2, 0, 2]] * 3, [[40, 20, 0, 20], [4, 2, 0, 2], [2, 1, 0, 1]]])  # also where one is seldom
    assert mutual_information(shares) == pytest.approx([0, 0], abs=1e-12)


def test_experts_that_one_modality_has_for_itself_tell_all_of_it():
    shares = np.array([
        [[4, 4, 0, 0], [0, 0, 4, 4]], [[9, 1, 0, 0], [0, 0, 0, 1]], [[4, 0, 0, 0], [0, 0, 4, 0]]
    ])  # fmt: skip
    assert mutual_information(shares) == pytest.approx([1, 1, 1])


def test_one_modality_alone_tells_nothing():
    shares = np.array([[[4, 4, 0, 0], [0, 0, 0, 0]], [[4, 0, 0, 0], [4, 0, 0, 0]], np.zeros((2, 4))])
    assert mutual_information(shares) == [0, 0, 0]


@given(st.lists(st.lists(st.integers(0, 50), min_size=EXPERTS, max_size=EXPERTS), min_size=2, max_size=4))
@derandomised
def test_mutual_information_stays_between_none_and_all(shares):
    assert -1e-12 <= mutual_information(np.array([shares]))[0] <= 1 + 1e-12
