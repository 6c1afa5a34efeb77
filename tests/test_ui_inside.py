"""Who may change the experts' memory, and what the page is told of an engine's inside."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import numpy as np
import pytest

from omni.engine import Card, Component, Memory, PoolMemory
from omni.errors import OmniError
from omni.settings import Settings
from omni.ui.inside import HOW, card_value, changed, is_loopback, may_change, memory_value


def request(client: str | None = "127.0.0.1", **headers: str) -> SimpleNamespace:
    """What Gradio tells of a visitor."""
    return SimpleNamespace(client=client and SimpleNamespace(host=client), headers=headers)


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


@pytest.mark.parametrize(
    ("settings", "visitor", "may"),
    [
        (Settings(), request(), True),
        (Settings(host="localhost"), request("::1"), True),
        (Settings(host="0.0.0.0"), request(), False),
        (Settings(host="192.168.1.5"), request(), False),
        (Settings(share=True), request(), False),
        (Settings(), request("10.0.0.7"), False),
        (Settings(), request(**{"x-forwarded-for": "10.0.0.7"}), False),
        (Settings(), request(**{"forwarded": "for=10.0.0.7"}), False),
        (Settings(), request(None), False),
        (Settings(), None, False),
        (Settings(memory_slider="nobody"), request(), False),
        (Settings(memory_slider="everyone", host="0.0.0.0", share=True), request("10.0.0.7"), True),
    ],
)
def test_memory_is_for_this_machines_browsers_unless_the_host_says_otherwise(settings, visitor, may):
    assert may_change(settings, visitor) is may


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
                      ("example.org", False), ("", False)],
)  # fmt: skip
def test_loopback_addresses_are_known(host, own):
    assert is_loopback(host) is own


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
