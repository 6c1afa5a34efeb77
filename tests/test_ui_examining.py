"""The exam in the house: one at a time, between the visitors' replies, and over soon after it is ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from omni.conversation import Conversation
from omni.engine import Engine, Wish
from omni.errors import OmniError
from omni.events import Event, TextDelta
from omni.examiner import Difference, Figure, Prospect, Report, Standing
from omni.ui.exam import ADDRESS, House
from omni.ui.examining import Examining
from omni.ui.pacing import OneAtATime

FIGURE = Figure("sums", "Sums.", 50.0, "%", 90.0, "higher", True, 2, 1.0, 10.0, 90.0)


class Endless:
    """An engine that says the same until it is closed. State: whether it began, and whether it was closed."""

    name, capabilities = "Endless", None

    def __init__(self):
        self.begun, self.closed = threading.Event(), threading.Event()

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        self.begun.set()
        try:
            while True:
                yield TextDelta("on ")
        finally:
            self.closed.set()


class Short(Endless):
    """An engine that says one word."""

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        yield TextDelta("done")


class Asking:
    """An examiner of two questions. State: what is wrong, and whether the exam was left in order."""

    def __init__(self, folder: Path, lacks: str = "", fault: Exception | None = None):
        self.folder, self.lacks, self.fault, self.left = folder, lacks, fault, threading.Event()

    def prospect(self, engine: Engine) -> Prospect:
        return Prospect("mine", 0, 2, {"caption": "takes no image"}, self.lacks)

    def reports(self) -> list[Report]:
        return [Report("mine", "fake", "one", 2, "2026-11-24", True, (FIGURE,))]

    def differences(self, name: str) -> list[Difference]:
        return [Difference("other", "sums", 5.0, -1.0, 9.0, 20)] if name == "mine" else []

    def sit(self, engine: Engine, anew: bool) -> Iterator[Standing]:
        try:
            yield Standing(0, "sums")
            if self.fault:
                raise self.fault
            for number in (1, 2):
                list(engine.reply(Conversation(self.folder), Wish()))
                yield Standing(number, "sums", complete=number == 2)
        finally:
            self.left.set()

    def page(self, name: str) -> Path | None:
        return self.folder / "page.html" if name == "mine" else None


def house(examiner: Asking, engine: Engine) -> House:
    return House(examiner, engine, OneAtATime())


def test_an_exam_tells_how_far_it_is_and_ends_with_its_figures(tmp_path: Path):
    told = list(house(Asking(tmp_path), Short()).sit("me", anew=True, may=True))
    values = [value for value, _ in told if value["state"] == "running" and value["part"]]
    assert [(one["answered"], one["questions"]) for one in values] == [(0, 2), (1, 2), (2, 2)]
    assert values[0]["left"] is None and values[-1]["left"] == 0
    (state, figures) = told[-1]
    assert (state["state"], state["sentence"]) == ("ready", "")
    assert figures["differences"] == [
        {"other": "other", "figure": "sums", "value": 5.0, "low": -1.0, "high": 9.0, "n": 20}
    ]
    assert figures["reports"][0]["figures"][0]["value"] == 50.0 and figures["skipped"] == {"caption": "takes no image"}


def test_an_exam_is_ended_in_the_middle_of_a_question(tmp_path: Path):
    engine, examiner = Endless(), Asking(tmp_path)
    examining = Examining(engine, OneAtATime(), examiner)
    news = examining.sit("me")
    next(news)
    assert engine.begun.wait(5)
    examining.end("somebody else")
    assert next(news) is not None and examining.visitor == "me"
    examining.end("me")
    list(news)
    assert engine.closed.wait(2) and examiner.left.is_set() and examining.visitor is None


def test_a_page_that_is_closed_ends_its_exam(tmp_path: Path):
    engine, examiner = Endless(), Asking(tmp_path)
    updates = house(examiner, engine).sit("me", anew=False, may=True)
    next(updates)
    assert engine.begun.wait(5)
    updates.close()
    assert engine.closed.wait(2) and examiner.left.wait(2)


def test_there_is_one_exam_at_a_time(tmp_path: Path):
    home = house(Asking(tmp_path), Endless())
    first = home.sit("me", anew=False, may=True)
    next(first)
    (refused,) = home.sit("you", anew=False, may=True)
    assert refused[0]["state"] == "ready" and "Another exam" in refused[0]["sentence"]
    assert "Another exam" in home.look("you", True)[0]["sentence"]
    assert all("__type__" in one for one in home.look("me", True))  # it shows itself
    first.close()


def test_who_may_not_starts_none_and_sees_the_figures(tmp_path: Path):
    home = house(Asking(tmp_path), Endless())
    for value, figures in (home.look("me", may=False), *home.sit("me", anew=True, may=False)):
        assert (value["state"], value["may"]) == ("ready", False) and figures["reports"]
    assert home.examining.visitor is None and not home.engine.begun.is_set()


def test_a_visitor_goes_before_the_next_question(tmp_path: Path):
    """Even before one that waits longer already."""
    model, order = OneAtATime(), []

    class Asked(Short):
        def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
            order.append("question")
            yield TextDelta("done")

    def waits() -> None:
        with model.turn():
            order.append("visitor")

    news, visitor = Examining(Asked(), model, Asking(tmp_path)).sit("me"), threading.Thread(target=waits)
    with model.turn():  # the reply to somebody else
        for _ in range(20):
            if not model._waiting[True]:
                next(news)
        visitor.start()
        while not model._waiting[False]:
            visitor.join(0.01)
    list(news)
    assert order == ["visitor", "question", "question"]


@pytest.mark.parametrize(
    ("fault", "sentence"), [(OmniError("The model is out of memory."), "out of memory"), (ZeroDivisionError("x"), "")]
)
def test_a_failure_is_a_sentence_and_the_house_is_free_again(tmp_path: Path, fault: Exception, sentence: str):
    home = house(Asking(tmp_path, fault=fault), Short())
    *_, (last, _) = home.sit("me", anew=False, may=True)
    assert last["state"] == "ready" and last["sentence"] and sentence in last["sentence"]
    assert home.examining.visitor is None


def test_what_the_host_lacks_stands_where_the_button_would(tmp_path: Path):
    home = house(Asking(tmp_path, lacks="Please install espeak-ng."), Short())
    for value, figures in (home.look("me", True), *home.sit("me", anew=False, may=True)):
        assert value == {"state": "lacking", "sentence": "Please install espeak-ng."}
        assert figures["reports"]  # stored ones can be looked at all the same


def test_a_report_may_do_nothing_but_show_itself(tmp_path: Path):
    (tmp_path / "page.html").write_text("<p>figures</p>")
    home = house(Asking(tmp_path), Short())
    client = TestClient(Starlette(routes=[Route(ADDRESS, home.report)]))
    answer = client.get("/omni-exam/mine")
    assert answer.text == "<p>figures</p>" and answer.headers["content-security-policy"].startswith("sandbox")
    assert client.get("/omni-exam/other").status_code == 404
