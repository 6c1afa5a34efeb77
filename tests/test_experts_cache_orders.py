"""The slot cache under any order of events: nothing over budget, nothing torn, nothing lost, every count adds up."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from slot_cache import ALL, LEAST, SLOT, Disk, make_cache, mark, no_fill, stand_in

from omni.experts.cache import BudgetError, Key, Slot
from omni.experts.policy import POLICIES


class Use:
    """Experts that are pinned. State: which of them were waited for."""

    def __init__(self, keys: list[Key], slots: list[Slot]):
        self.slots = dict(zip(keys, slots, strict=True))
        self.waited: set[Key] = set()


NUMBERS = st.integers(0, 11)


class EveryOrder(RuleBasedStateMachine):
    """Any order of asking, waiting, releasing, fetching ahead, completing, failing and resizing."""

    policy = "lfu"

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.source = stand_in(self.patch)
        self.cache, self.memory = make_cache(no_fill, self.policy)
        self.uses: list[Use] = []
        self.asked = self.failed = 0

    def teardown(self):
        while self.uses:
            self.cache.release(self.uses.pop().slots.values())
        self.cache.close()
        assert self.memory.alive == 0
        self.patch.undo()

    def pinned(self) -> set[int]:
        return {id(slot) for use in self.uses for slot in use.slots.values()}

    @rule(keys=st.lists(st.sampled_from(ALL), min_size=1, max_size=LEAST + 1, unique=True), passing=st.booleans())
    def ask(self, keys, passing):
        pinned = self.pinned()
        there = [slot for key in keys if (slot := self.cache._slots.get(key)) is not None]
        needed = len(pinned | {id(slot) for slot in there}) + len(keys) - len(there)
        before = [slot.pins for slot in there]
        try:
            slots = self.cache.acquire(keys, passing)
        except BudgetError as error:
            assert needed > self.cache.target
            assert "in use at once" in str(error)
            assert [slot.pins for slot in there] == before
            return
        self.asked += len(keys)
        self.uses.append(Use(keys, slots))

    @precondition(lambda self: self.uses)
    @rule(number=NUMBERS, which=NUMBERS)
    def wait(self, number, which):
        use = self.uses[number % len(self.uses)]
        key = list(use.slots)[which % len(use.slots)]
        try:
            assert self.cache.wait(use.slots[key]) is use.slots[key].operand
        except Disk:
            assert self.cache._slots.get(key) is not use.slots[key]
            return
        use.waited.add(key)

    @precondition(lambda self: self.uses)
    @rule(number=NUMBERS)
    def release(self, number):
        self.cache.release(self.uses.pop(number % len(self.uses)).slots.values())
        if not self.uses and not self.source.under_way:
            assert self.memory.alive <= self.cache.target * SLOT

    @rule(keys=st.lists(st.sampled_from(ALL), max_size=4))
    def prefetch(self, keys):
        before = {slot: slot.key for slot in self.cache._slots.values() if slot.pins or slot.key in keys}
        self.cache.prefetch(keys)
        assert before == {slot: slot.key for slot in before}

    @precondition(lambda self: self.source.under_way)
    @rule(number=NUMBERS, fails=st.sampled_from([False, False, True]))
    def complete(self, number, fails):
        fetch = self.source.under_way[number % len(self.source.under_way)]
        self.failed += fails
        fetch.complete(Disk(str(fetch.key)) if fails else None)

    @rule(slots=st.integers(LEAST, len(ALL) + 2))
    def resize(self, slots):
        self.cache.resize(slots * SLOT)
        assert self.cache.target == min(slots, len(ALL))
        if not self.uses:
            assert self.memory.alive <= self.cache.target * SLOT

    @rule(slots=st.integers(0, LEAST - 1))
    def resize_to_too_little(self, slots):
        before = self.cache.target, self.cache.residents
        with pytest.raises(BudgetError):
            self.cache.resize(slots * SLOT)
        assert (self.cache.target, self.cache.residents) == before

    @invariant()
    def what_may_be_read_is_what_was_asked_for(self):
        for use in self.uses:
            for key in use.waited:
                assert (use.slots[key].memory == mark(key)).all()
        for key, slot in self.cache._slots.items():
            assert slot.key == key
            if slot.coming is None:
                assert (slot.memory == mark(key)).all()

    @invariant()
    def every_slot_is_in_one_place(self):
        every = {id(slot) for slots in self.cache._chunks.values() for slot in slots}
        free = [id(slot) for slot in self.cache._free]
        held = {id(slot) for slot in self.cache._slots.values()}
        assert len(free) == len(set(free))
        assert not held & set(free)
        assert every == held | set(free) | (self.pinned() - held)
        assert self.pinned() <= every
        for slots in self.cache._chunks.values():
            for slot in slots:
                assert slot.pins == sum(slot is one for use in self.uses for one in use.slots.values())

    @invariant()
    def bytes_are_counted_as_they_are(self):
        assert self.memory.alive == self.cache.bytes_held

    @invariant()
    def counters_add_up(self):
        total = self.cache.stats.total()
        assert total.hits + total.misses == self.asked
        assert total.bytes_read == self.source.started * SLOT
        ahead = sum(slot.ahead for slot in self.cache._slots.values())
        assert total.prefetched + total.wasted + ahead <= self.source.started - total.misses

    @invariant()
    def the_policy_knows_every_key_that_has_a_slot(self):
        assert self.cache.policy.residents == set(self.cache._slots)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_order_of_events_keeps_every_promise(policy):
    machine = type("Machine", (EveryOrder,), {"policy": policy}).TestCase
    machine.settings = settings(derandomize=True, deadline=None, max_examples=60, stateful_step_count=40)
    machine().runTest()
