"""The engines behind the title: who may start another one, and what is told where it does not go."""

from __future__ import annotations

import pytest
from visitors import request

from omni.errors import OmniError
from omni.lineup import Candidate
from omni.settings import Settings
from omni.ui.engines import lineup_value, switched


class Two:
    """Two engines. State: which were asked for."""

    refused = ""

    def __init__(self):
        self.asked = []

    def candidates(self) -> list[Candidate]:
        return [
            Candidate("one", "One", "Runs.", (("Memory", "1.0 GB"),), "", "python app.py", runs=True),
            Candidate("two", "Two", "Does not.", (), "It needs a server.", "python app.py --engine two"),
        ]

    def switch(self, name: str) -> None:
        self.asked.append(name)
        if name != "one":
            raise OmniError("It needs a server.")


def test_who_may_not_starts_nothing_and_still_sees_the_engines():
    both = Two()
    value = switched(both, Settings(host="0.0.0.0"), request("10.0.0.7"), "one")
    assert both.asked == [] and not value["may"] and not value["leaving"]
    assert [one["name"] for one in value["candidates"]] == ["one", "two"]


def test_who_may_starts_it_and_a_refusal_is_a_sentence():
    assert switched(Two(), Settings(), request(), "one")["leaving"]
    refused = switched(Two(), Settings(), request(), "two")
    assert (refused["failed"], refused["leaving"], refused["may"]) == ("It needs a server.", False, True)


def test_a_fault_while_looking_is_told_without_its_cause(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Two, "candidates", lambda self: 1 / 0)
    value = lineup_value(Two(), may=True)
    assert value["candidates"] == [] and "ZeroDivision" not in value["failed"] and value["failed"]
