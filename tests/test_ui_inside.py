"""The experts' memory changed by who may, and what the page is told of an engine's inside."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import numpy as np
from visitors import request

from omni.engine import Card, Component, Memory, PoolMemory
from omni.errors import OmniError
from omni.settings import Settings
from omni.ui.inside import HOW, card_value, changed, memory_value


class Glass:
    """An inside of one pool of 2 layers and 12 experts. State: its budget."""

    def __init__(self):
        self.budget = 1000

    def card(self) -> Card:
        return Card("Glass", (("Licence", "none"),), (Component("panes", 3, 6, "float16", "RAM"),))

    def memory(self) -> Memory:
        resident = np.zeros((2, 12), bool)
        resident[1, 11] = True
        return Memory("a pane", False, (PoolMemory("experts", resident, 2, 50),), 50, self.budget, 100, 1000, 1200, 0,
                      1300, 5, 10, 0, 0)  # fmt: skip

    def set_experts_memory(self, budget: int) -> Memory:
        if budget < 100:
            raise OmniError("That is too little.")
        self.budget = budget
        return self.memory()


def test_who_may_not_changes_nothing_and_is_told_how_it_could_be():
    glass = Glass()
    value = changed(glass, Settings(host="0.0.0.0"), request("10.0.0.7"), 500)
    assert glass.budget == 1000
    assert (value["may"], value["budget"], value["how"]) == (False, 1000, HOW)


def test_who_may_changes_it_and_a_refusal_is_a_sentence():
    glass = Glass()
    assert changed(glass, Settings(), request(), 500)["budget"] == 500
    refused = changed(glass, Settings(), request(), 5)
    assert (refused["budget"], refused["failed"], refused["may"]) == (500, "That is too little.", True)


def test_what_is_resident_is_told_as_bits_layer_by_layer():
    pool = memory_value(Glass())["pools"]["experts"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(pool["resident"]), np.uint8))[:24].reshape(2, 12)
    assert bits.sum() == bits[1, 11] == pool["count"] == 1
    assert (pool["layers"], pool["experts"], pool["bytes"]) == (2, 12, 50)


def test_an_engine_that_runs_elsewhere_shows_what_it_says_of_itself():
    engine = SimpleNamespace(name="Far", capabilities=SimpleNamespace(about="It is far away."))
    assert memory_value(None)["known"] is False
    assert card_value(None, engine)["about"] == "It is far away."
    assert changed(None, Settings(), request(), 5)["known"] is False


def test_a_card_lists_facts_and_parts():
    engine = SimpleNamespace(name="Glass", capabilities=SimpleNamespace(about="One sees through it."))
    card = card_value(Glass(), engine)
    assert card["facts"] == (("Licence", "none"),)
    assert card["components"][0]["precision"] == "float16"
