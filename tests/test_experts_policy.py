"""Which expert leaves: every policy against its definition, Belady against every choice that there is."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.experts.policy import HALF_LIFE, POLICIES, DecayedLFU, belady, make_policy, replay, zipf_trace

LAYERS = 3


def key(number: int) -> tuple[int, int]:
    return number % LAYERS, number


GROUPS = st.lists(st.integers(0, 7).map(key), min_size=1, max_size=3, unique=True)
TRACES = st.lists(GROUPS, max_size=40)
CAPACITIES = st.integers(3, 9)
derandomised = settings(derandomize=True, deadline=None, max_examples=150)


def fewest_misses(trace: list[list[int]], capacity: int) -> int:
    """The least number of misses that any choice of residents gives, by trying all of them."""

    @cache
    def least(index: int, residents: frozenset) -> int:
        if index == len(trace):
            return 0
        group = frozenset(trace[index])
        others = residents - group
        kept = min(len(others), capacity - len(group))
        rest = min(least(index + 1, group | frozenset(chosen)) for chosen in combinations(others, kept))
        return len(group - residents) + rest

    return least(0, frozenset())


@given(trace=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=2, unique=True), max_size=9))
@derandomised
def test_belady_has_as_few_misses_as_the_best_of_all_choices(trace):
    assert belady(trace, 3).misses == fewest_misses(trace, 3)


@pytest.mark.parametrize("name", POLICIES)
@given(trace=TRACES, capacity=CAPACITIES)
@derandomised
def test_no_policy_beats_belady(name, trace, capacity):
    assert replay(trace, capacity, make_policy(name, LAYERS)).hits <= belady(trace, capacity).hits


@pytest.mark.parametrize("name", [*POLICIES, "belady"])
@given(trace=TRACES, capacity=CAPACITIES)
@derandomised
def test_every_use_is_a_hit_or_a_miss_and_what_fits_is_missed_once(name, trace, capacity):
    went = belady(trace, capacity) if name == "belady" else replay(trace, capacity, make_policy(name, LAYERS))
    different = len({key for group in trace for key in group})
    assert went.hits + went.misses == sum(map(len, trace))
    assert went.misses >= different
    assert went.misses == different or different > capacity
    assert went.rate == went.hits / max(1, sum(map(len, trace)))


@pytest.mark.parametrize("name", [*POLICIES, "belady"])
def test_a_group_that_does_not_fit_is_refused(name):
    group = [key(number) for number in range(3)]
    with pytest.raises(ValueError, match="3 experts are needed at once, the memory holds 2"):
        belady([group], 2) if name == "belady" else replay([group], 2, make_policy(name, LAYERS))


@given(trace=st.lists(st.integers(0, 7).map(lambda key: [key]), max_size=60), capacity=st.integers(1, 8))
@derandomised
def test_lru_is_the_lru_of_the_textbook(trace, capacity):
    recent: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for [key] in trace:
        hits += key in recent
        recent[key] = None
        recent.move_to_end(key)
        if len(recent) > capacity:
            recent.popitem(last=False)
    assert replay(trace, capacity, make_policy("lru", LAYERS)).hits == hits


@given(
    chosen=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True), max_size=60),
    capacity=st.integers(3, 12),
)
@derandomised
def test_layered_lru_lets_go_of_who_missed_most_visits_and_has_its_next_last(chosen, capacity):
    policy, residents, visits = make_policy("layered", LAYERS), set(), []
    for step, experts in enumerate(chosen):
        here, group = step % LAYERS, {(step % LAYERS, expert) for expert in experts}
        visits.append(group)
        for wanted in sorted(group - residents):
            if len(residents) == capacity:
                ranks = {}
                for one in residents - group:
                    past = [visit for visit in visits if next(iter(visit))[0] == one[0]]  # this one is among them
                    missed = next(count for count, visit in enumerate(reversed(past)) if one in visit)
                    ranks[one] = missed, (one[0] - here - 1) % LAYERS
                gone = policy.victim(group, wanted)
                assert ranks[gone] == max(ranks.values())
                residents.remove(gone)
                policy.forget(gone)
            residents.add(wanted)
            policy.pass_by(wanted)
        for one in group:
            policy.touch(one)
        policy.tick()


class Reference:
    """The worth of every key by the definition of its policy, from all that ever happened to it."""

    def __init__(self, name: str):
        self.name, self.now, self.order = name, 0, 0
        self.used: dict[int, list[int]] = {}
        self.residents: dict[int, tuple[float, int]] = {}  # worth, and when it was last given one

    def touch(self, key: int) -> None:
        self.used.setdefault(key, []).append(self.now)
        self._enter(key, self._worth(self.used[key]))

    def pass_by(self, key: int) -> None:
        if key not in self.residents:
            self._enter(key, -math.inf)

    def _enter(self, key: int, worth: float) -> None:
        self.order += 1
        self.residents[key] = worth, self.order

    def _worth(self, times: list[int]) -> float:
        match self.name:
            case "lru":
                return times[-1]
            case "lfu":
                return math.log2(sum(2.0 ** (time / (HALF_LIFE * LAYERS)) for time in times))
        return times[-2] if len(times) > 1 else -1


KEYS = st.integers(0, 6).map(key)
EVENTS = st.one_of(
    st.tuples(st.sampled_from(["touch", "touch", "pass_by", "forget"]), KEYS),
    st.tuples(st.just("tick"), st.none()),
    st.tuples(st.just("victim"), st.sets(KEYS)),
)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "layered"])
@given(events=st.lists(EVENTS, max_size=80))
@derandomised
def test_the_victim_is_the_least_worth_resident_that_is_not_busy(name, events):
    policy, reference = make_policy(name, LAYERS), Reference(name)
    for event, value in events:
        if event == "tick":
            policy.tick()
            reference.now += 1
        elif event == "forget":
            policy.forget(value)
            reference.residents.pop(value, None)
        elif event != "victim":
            getattr(policy, event)(value)
            getattr(reference, event)(value)
        else:
            free = {key: worth for key, worth in reference.residents.items() if key not in value}
            victim = policy.victim(value)
            if not free:
                assert victim is None
            elif name == "lfu":  # two sums of the same uses may differ in their last bit
                assert free[victim][0] <= min(free.values())[0] + 1e-9
            else:
                assert victim == min(free, key=free.get)


@pytest.mark.parametrize("name", POLICIES)
def test_what_only_passed_by_leaves_before_what_was_used_once(name):
    policy = make_policy(name, LAYERS)
    policy.touch((0, "used"))
    policy.tick()
    policy.pass_by((1, "passing"))
    assert policy.victim(()) == (1, "passing")
    policy.forget((1, "passing"))
    assert policy.victim(()) == (0, "used")


@pytest.mark.parametrize("name", POLICIES)
def test_the_heap_stays_small_however_often_keys_come_and_go(name):
    """Entries of equal worth must not all count as valid: a key that leaves and comes back leaves one behind."""
    policy = make_policy(name, LAYERS)
    for step in range(3000):
        for number in range(4):
            (policy.touch if step % 3 else policy.pass_by)(key(number))
        policy.forget(key(step % 4))
        assert len(policy._heap) <= 64 + 4 * 4


@given(gaps=st.lists(st.integers(0, 90), min_size=1, max_size=30), half_life=st.integers(1, 50))
@derandomised
def test_decayed_frequency_is_the_plain_sum_of_decayed_uses(gaps, half_life):
    """The policy keeps a logarithm that only grows; the plain sum decays. 1e-9: sums of doubles, thirty times."""
    policy, times = DecayedLFU(half_life), []
    for gap in gaps:
        for _ in range(gap):
            policy.tick()
        times.append(policy.clock)
        policy.touch((0, "key"))
    plain = sum(2.0 ** ((time - policy.clock) / half_life) for time in times)
    assert policy.victim(()) == (0, "key")
    assert policy._valid[0, "key"][0] - policy.clock / half_life == pytest.approx(math.log2(plain), abs=1e-9)


def test_decayed_frequency_survives_a_clock_that_runs_for_days():
    policy = DecayedLFU(HALF_LIFE * 48)
    policy.clock = 10**12  # 2 ** (clock / half life) is no float
    policy.touch((0, "once"))
    policy.touch((0, "twice"))
    policy.touch((0, "twice"))
    assert policy.victim(()) == (0, "once")


def test_an_unknown_policy_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no policy 'fifo'; there are layered, lru, lfu, reuse"):
        make_policy("fifo", LAYERS)


def trace(seed: int = 3, steps: int = 200, skew: float = 0.8, stay: float = 0.3) -> list[list[tuple[int, int]]]:
    return list(zipf_trace(np.random.default_rng(seed), steps, LAYERS, 16, 4, skew, stay))


def test_made_up_routing_has_the_shape_of_real_routing():
    groups = trace()
    assert len(groups) == 200 * LAYERS
    for index, group in enumerate(groups):
        assert {layer for layer, _ in group} == {index % LAYERS}
        assert len(set(group)) == 4
        assert all(0 <= expert < 16 for _, expert in group)
    assert groups == trace()
    assert groups != trace(seed=4)


def test_skew_concentrates_made_up_routing_and_without_it_experts_are_used_alike():
    def most_used(skew: float) -> float:
        uses = Counter(key for group in trace(steps=600, skew=skew, stay=0.0) for key in group if key[0] == 0)
        return max(uses.values()) / uses.total()

    assert most_used(0.0) < 1.3 / 16  # 2,400 draws of 16: their largest share is 1/16 within 30%, four deviations
    assert most_used(1.5) > 2 / 16


def test_what_stays_in_made_up_routing_is_taken_over_from_the_step_before():
    groups = trace(stay=1.0)
    assert all(set(group) == set(groups[index % LAYERS]) for index, group in enumerate(groups))
