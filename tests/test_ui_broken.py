"""A reply that a fault broke off: what came stays in the thread, marked, and the fault is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_engine import FakeEngine, hum

from omni.conversation import Conversation, Text
from omni.engine import Wish
from omni.errors import OmniError
from omni.events import Event, Finished, TextDelta, Usage
from omni.provenance.keys import Keys
from omni.ui.actions import Actions
from omni.ui.api import replies
from omni.ui.composer import AS_ASKED, wish_of

WHY = "The connection to the model's server broke off; please try again."


class Breaking(FakeEngine):
    """Says half a sentence and hums, and is cut."""

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        yield TextDelta("half a ")
        yield from hum(0.2)
        yield Finished(Usage(), "cut", WHY)


@pytest.fixture
def actions(tmp_path: Path, keys: Keys) -> Actions:
    return Actions(Breaking(), tmp_path, keys, ())


def test_what_came_stays_and_the_visitor_is_told(actions):
    asked = actions.send(None, (), "hello").visit
    last = list(actions.answer(asked, False, [AS_ASKED], None, 0.7, -1, 100))[-1]
    words, sound = last.visit.conversation.messages[-1].parts
    assert words == Text("half a ") and sound.seconds == pytest.approx(0.24)
    assert last.visit.stopped == {1}
    assert (last.status["state"], last.status["text"]) == ("failed", WHY)
    assert last.visit.turn is None


def test_a_program_gets_what_came_and_then_the_sentence(actions):
    updates = []
    with pytest.raises(OmniError, match="broke off"):
        for update in replies(actions, "hello", [], wish_of([], None, 0.7, -1, 100)):
            updates.append(update)
    assert updates[-1][0]["text"] == "half a "
