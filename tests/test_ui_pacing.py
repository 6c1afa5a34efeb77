"""Replies run one at a time, at their own speed, and end when they are told to."""

from __future__ import annotations

import threading
from itertools import count

import pytest

from omni.errors import OmniError
from omni.events import TextDelta
from omni.ui import pacing
from omni.ui.pacing import OneAtATime


def endless(gone: threading.Event):
    try:
        for number in count():
            yield TextDelta(str(number))
    finally:
        gone.set()


def test_all_events_come_in_their_order():
    model = OneAtATime()
    with model.replying("a", lambda: (TextDelta(str(number)) for number in range(500))) as batches:
        words = [event.text for batch in batches for event in batch]
    assert words == [str(number) for number in range(500)]


def test_leaving_closes_the_generator_in_its_own_thread():
    model, gone = OneAtATime(), threading.Event()
    with model.replying("a", lambda: endless(gone)) as batches:
        assert next(batches)
    assert gone.wait(5)


def test_an_ended_reply_has_no_more_batches_and_is_closed():
    model, gone = OneAtATime(), threading.Event()
    with model.replying("a", lambda: endless(gone)) as batches:
        next(batches)
        model.end("a")
        assert len(list(batches)) <= 1  # what had arrived by then
    assert gone.wait(5)


def test_a_reply_that_was_ended_before_it_began_never_begins():
    model, begun = OneAtATime(), threading.Event()

    def reply():
        begun.set()
        yield TextDelta("too late")

    model.end("a")
    with model.replying("a", reply) as batches:
        assert not any(batches)
    assert not begun.is_set()


def test_the_second_reply_begins_when_the_first_is_closed():
    model, gone, order = OneAtATime(), threading.Event(), []

    def second():
        order.append(gone.is_set())
        yield TextDelta("second")

    with model.replying("a", lambda: endless(gone)) as first:
        next(first)
        with model.replying("b", second) as batches:
            assert next(batches) == []  # a sign of life while it waits
            model.end("a")
            assert [event.text for batch in batches for event in batch] == ["second"]
    assert order == [True]


def test_errors_come_after_the_events_before_them():
    def reply():
        yield TextDelta("so far")
        raise OmniError("The model is out of memory.")

    with OneAtATime().replying("a", reply) as batches:
        assert [event.text for event in next(batches)] == ["so far"]
        with pytest.raises(OmniError, match="out of memory"):
            next(batches)


def test_updates_keep_their_distance(monkeypatch: pytest.MonkeyPatch):
    """A model that writes faster than the page draws must not flood the browser."""
    slept = []
    monkeypatch.setattr(pacing.time, "sleep", slept.append)
    monkeypatch.setattr(pacing.time, "monotonic", lambda: 100.0)
    step = threading.Semaphore(0)

    def reply():
        for number in range(3):
            step.acquire()
            yield TextDelta(str(number))

    with OneAtATime().replying("a", reply) as batches:
        for _ in range(3):
            step.release()
            assert any(next(batches) for _ in range(50))
    assert [pause for pause in slept if pause] == pytest.approx([pacing.PAUSE] * 2)


def test_the_patient_goes_when_nobody_else_waits():
    """An exam asks one question after the other: a visitor who comes meanwhile is next."""
    model, order, threads = OneAtATime(), [], []

    def wait(name: str, patient: bool):
        with model.turn(patient):
            order.append(name)

    with model.turn():
        for name, patient in (("exam", True), ("one", False), ("two", False)):
            threads.append(threading.Thread(target=wait, args=(name, patient)))
            threads[-1].start()
            while sum(map(len, model._waiting.values())) < len(threads):
                threads[-1].join(0.01)
    for thread in threads:
        thread.join(5)
    assert order == ["one", "two", "exam"]
