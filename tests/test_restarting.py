"""A program that starts again with another engine: what it keeps, and what it falls back to."""

from __future__ import annotations

import os
import signal

import pytest

from omni import restarting
from omni.engines import candidates as engines
from omni.errors import OmniError
from omni.lineup import Candidate
from omni.restarting import ENGINE, FORMER, REFUSED, Restart, as_switched, fall_back
from omni.settings import Settings


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What each new program would have found in its environment."""
    found: list[dict[str, str]] = []
    for name in (ENGINE, FORMER, REFUSED):
        monkeypatch.setenv(name, "")  # is taken back after the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(restarting, "_start_again", lambda: found.append(dict(os.environ)))
    return found


def test_what_was_set_for_one_engine_is_not_for_another_and_comes_back_with_it(monkeypatch: pytest.MonkeyPatch):
    settings = Settings(engine="qwen3-omni", model="a-folder", memory="12GB", queue_size=3)
    assert as_switched(settings) == settings
    monkeypatch.setenv(ENGINE, "primer")
    assert as_switched(settings) == Settings(engine="primer", queue_size=3)
    monkeypatch.setenv(ENGINE, "qwen3-omni")
    assert as_switched(settings) == settings


def test_a_switch_ends_the_program_in_order_and_the_next_one_has_the_engine(started, monkeypatch: pytest.MonkeyPatch):
    ended = []
    monkeypatch.setattr(restarting.os, "kill", lambda process, sign: ended.append((process, sign)))
    monkeypatch.setattr(restarting, "AFTER", 0)
    restart = Restart(Settings(base_url="http://127.0.0.1:1/v1"))
    monkeypatch.setattr(restart, "candidates", lambda: [Candidate("remote", "Remote", "", (), "", "")])
    restart.carry_out()
    assert started == []  # nobody asked
    timers = restarting.threading.enumerate()
    restart.switch("remote")
    for timer in set(restarting.threading.enumerate()) - set(timers):
        timer.join()
    assert ended == [(os.getpid(), signal.SIGTERM)]
    restart.carry_out()
    assert (started[0][ENGINE], started[0][FORMER]) == ("remote", "primer")


@pytest.mark.parametrize("name", ["primer", "remote", "oracle"])
def test_what_runs_already_lacks_something_or_is_unknown_is_refused(name: str, monkeypatch: pytest.MonkeyPatch):
    listed = [
        Candidate("primer", "", "", (), "", "", runs=True),
        Candidate("remote", "", "", (), "The host has set no server address.", ""),
    ]
    monkeypatch.setattr(engines, "candidates", lambda _: listed)
    restart = Restart(Settings())
    with pytest.raises(OmniError):
        restart.switch(name)
    assert restart.wanted == ""


def test_an_engine_that_does_not_open_gives_way_to_the_one_before_it(started, monkeypatch: pytest.MonkeyPatch):
    fall_back(OmniError("Nobody answers."))
    assert started == []  # this was no switch
    monkeypatch.setenv(FORMER, "primer")
    fall_back(OmniError("Nobody answers."))
    assert (started[0][ENGINE], started[0][REFUSED]) == ("primer", "Nobody answers.") and FORMER not in started[0]
    assert Restart(Settings()).refused == "Nobody answers." and Restart(Settings()).refused == ""


def test_a_fault_of_ours_is_not_told_to_visitors(started, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(FORMER, "primer")
    fall_back(ZeroDivisionError("/home/host/secret"))
    assert started[0][REFUSED] == restarting.OUR_FAULT
