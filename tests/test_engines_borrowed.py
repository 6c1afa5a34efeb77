"""Replies on a lent GPU: how long it is asked for, and that nothing changes where none is lent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import spaces
from fake_engine import FakeEngine

from omni.conversation import Conversation, Message, Text
from omni.engine import Wish
from omni.engines.borrowed import LONGEST, Borrowing, seconds_for


@pytest.fixture
def asked(tmp_path: Path) -> Conversation:
    return Conversation(tmp_path, (Message("user", (Text("hello"),)),))


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [
        (Wish(frozenset({"text"}), max_tokens=200), 20),
        (Wish(frozenset({"text", "speech"}), max_tokens=200), 35),
        (Wish(max_tokens=200), 35),
        (Wish(max_tokens=100_000), LONGEST),
    ],
)
def test_the_gpu_is_asked_for_as_long_as_a_full_reply_takes(asked, wish, seconds):
    assert seconds_for(asked, wish) == seconds


def test_where_no_gpu_is_lent_the_engine_answers_itself(asked):
    engine = FakeEngine()
    borrowing = Borrowing(engine)
    assert (borrowing.name, borrowing.capabilities) == (engine.name, engine.capabilities)
    wish = Wish(frozenset({"text"}), seed=1)
    kinds = [type(event) for event in borrowing.reply(asked, wish)]
    assert kinds == [type(event) for event in engine.reply(asked, wish)]


def test_an_engine_that_can_be_looked_into_still_can_be():
    engine = FakeEngine()
    assert Borrowing(engine).inside is None
    engine.inside = object()
    assert Borrowing(engine).inside is engine.inside


def test_every_reply_asks_for_a_gpu(asked, monkeypatch):
    lent = []

    def lend(task, duration):
        def reply(*inputs):
            lent.append(duration(*inputs))
            return task(*inputs)

        return reply

    monkeypatch.setattr(spaces, "GPU", lend)
    next(iter(Borrowing(FakeEngine()).reply(asked, Wish(max_tokens=80))))
    assert lent == [20]


def test_on_a_lent_gpu_everything_stands_before_a_reply_begins(tiny_omni: Path, tmp_path: Path):
    """Nothing is fetched in a reply, and no thread is there for the fork to lose."""
    command = [sys.executable, str(Path(__file__).with_name("lent_gpu.py")), str(tiny_omni), str(tmp_path)]
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["device"] == "cuda" and seen["readers"] == 0
    assert 0 <= seen["sent"] - seen["dense"] - seen["experts"] < 10_000  # what a trial left behind
    assert seen["words"] and seen["samples"]
    assert seen["hits"] and not seen["misses"] and not seen["read"]
