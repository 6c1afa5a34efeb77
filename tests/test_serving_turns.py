"""One model, one reply at a time, first come, first served."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
from fake_engine import FakeEngine
from loopback import until

from omni.conversation import Conversation, Message, Text
from omni.engine import Wish
from omni.events import Finished, Progress
from omni.serving.turns import Full, InTurn


@pytest.fixture
def asked(tmp_path) -> Conversation:
    return Conversation(tmp_path, (Message("user", (Text("hello"),)),))


def test_it_is_the_engine_in_everything_else(asked):
    turns = InTurn(FakeEngine(), 1)
    assert (turns.name, turns.capabilities) == ("Fake", FakeEngine.capabilities)
    assert isinstance(list(turns.reply(asked, Wish()))[-1], Finished)


def test_replies_are_served_in_the_order_in_which_they_came(asked):
    turns, order = InTurn(FakeEngine(), 8), []

    def ask(name: int) -> None:
        list(turns.reply(asked, Wish()))
        order.append(name)

    first = turns.reply(asked, Wish())
    next(first)
    threads = []
    for name in range(4):
        threads.append(threading.Thread(target=ask, args=(name,)))
        threads[-1].start()
        until(lambda: turns.waiting == len(threads))
    first.close()
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3]


def test_one_that_waits_says_so_and_can_leave_the_line(asked):
    turns = InTurn(FakeEngine(), 1)
    with closing(turns.reply(asked, Wish())) as first:
        next(first)
        with closing(turns.reply(asked, Wish())) as second:
            assert next(second) == next(second) == Progress("Waiting for the model")
            with pytest.raises(Full, match="try again soon"):
                next(turns.reply(asked, Wish()))
        assert turns.waiting == 0
    assert isinstance(list(turns.reply(asked, Wish()))[-1], Finished)


def test_a_failed_reply_gives_its_place_free(asked):
    turns = InTurn(FakeEngine(), 0)
    broken = asked.plus(Message("user", (Text("break"),)))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            list(turns.reply(broken, Wish()))
