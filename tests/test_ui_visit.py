"""The visit: what a question, a reply, a stop, a failure and an undo leave behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omni.conversation import Audio, Image, Message, Text
from omni.events import Finished, ImageReady, SpeechChunk, TextDelta, Usage
from omni.provenance.imprint import Imprint
from omni.provenance.keys import Keys
from omni.ui import visit
from omni.ui.draft import Draft
from omni.ui.thread import growing_value, thread_value
from omni.ui.visit import Visit


@pytest.fixture
def here(tmp_path: Path) -> Visit:
    return visit.enter(tmp_path)


def asked(here: Visit, words: str) -> Visit:
    return visit.ask(here, Message("user", (Text(words),)))


def hearing(here: Visit, *events) -> Visit:
    for event in events:
        here = replace(here, draft=here.draft.plus(event))
    return here


def speaking(here: Visit, keys: Keys) -> Visit:
    """The same, with a draft that may make files."""
    return replace(here, draft=Draft(Imprint(here.folder, keys, "Fake", here.turn.asked)))


def talked(here: Visit, words: str) -> Visit:
    return visit.conclude(hearing(asked(here, words), TextDelta("to "), TextDelta(words), Finished(Usage())))


def texts(here: Visit) -> list[str]:
    return [message.text for message in here.conversation.messages]


def test_a_question_joins_the_thread_with_its_reply(here: Visit):
    waiting = asked(here, "one")
    assert texts(waiting) == [] and waiting.turn.asked.messages[-1].text == "one"
    assert texts(talked(here, "one")) == ["one", "to one"]


def test_the_page_is_told_of_a_growing_reply_without_the_thread_before_it(here: Visit):
    waiting = hearing(asked(talked(here, "one"), "two"), TextDelta("half"))
    told, growing = json.loads(thread_value(waiting)), growing_value(waiting)
    assert [message["text"] for message in told["messages"]] == ["one", "to one", "two"]
    assert told["turn"] == growing["turn"] == waiting.turn.name
    assert growing["message"]["parts"] == [{"kind": "text", "html": "<p>half</p>\n"}]
    settled = json.loads(thread_value(visit.settle(waiting)))
    assert settled["turn"] is None and settled["messages"][-1] == growing["message"] | {"text": "half", "stopped": True}


def test_a_stop_keeps_what_was_said_and_marks_it(here: Visit):
    stopped = visit.settle(hearing(asked(talked(here, "one"), "two"), TextDelta("half")))
    assert texts(stopped) == ["one", "to one", "two", "half"]
    assert stopped.stopped == {3} and stopped.turn is None


def test_speech_that_was_stopped_is_a_file_of_what_was_heard(here: Visit, keys: Keys):
    samples = np.linspace(-0.5, 0.5, 1600, dtype=np.float32)
    chunks = [SpeechChunk(samples, 16_000, start) for start in (0, 1600)]
    stopped = visit.settle(hearing(speaking(asked(here, "speak"), keys), *chunks))
    (sound,) = stopped.conversation.messages[-1].parts
    assert isinstance(sound, Audio) and sound.seconds == pytest.approx(0.2)


def test_a_failure_leaves_the_thread_and_returns_the_question(here: Visit):
    before = talked(here, "one")
    after = visit.abandon(hearing(asked(before, "two"), TextDelta("half")))
    assert after.conversation == before.conversation
    assert after.returned.text == "two"


def test_again_keeps_the_old_reply_until_the_new_one_is_there(here: Visit):
    before = talked(here, "one")
    again = visit.ask_again(before)
    assert texts(visit.abandon(again)) == ["one", "to one"]
    assert texts(visit.conclude(hearing(again, TextDelta("anew"), Finished(Usage())))) == ["one", "anew"]


def test_instead_answers_from_the_changed_question_and_keeps_its_media(here: Visit):
    picture = Image(here.folder / "a.png", 8, 8)
    before = visit.ask(here, Message("user", (picture, Text("one"))))
    before = talked(visit.conclude(hearing(before, TextDelta("x"), Finished(Usage()))), "two")
    changed = visit.ask_instead(before, 0, Text("uno"))
    assert changed.turn.asked.messages == (Message("user", (picture, Text("uno"))),)
    assert visit.ask_instead(before, 1, Text("a reply")).turn is None  # only questions can be changed
    assert visit.ask_instead(before, 9, Text("nothing")).turn is None


def changed(here: Visit, place: int, words: str) -> Visit:
    """The question at ``place`` in other words, answered."""
    asked_instead = visit.ask_instead(here, place, Text(words))
    return visit.conclude(hearing(asked_instead, TextDelta(f"to {words}"), Finished(Usage())))


def test_a_changed_question_leaves_the_old_way_to_go_back_to(here: Visit):
    first = talked(talked(here, "one"), "two")
    second = changed(first, 0, "uno")
    assert texts(second) == ["uno", "to uno"]
    assert [message.text for message in visit.versions(second, 0)] == ["one", "uno"]
    back = visit.turn_to(second, 0, 0)
    assert texts(back) == ["one", "to one", "two", "to two"]
    longer = talked(visit.turn_to(back, 0, 1), "due")
    assert texts(longer) == ["uno", "to uno", "due", "to due"]
    assert texts(visit.turn_to(visit.turn_to(longer, 0, 0), 0, 1)) == texts(longer)


def test_replies_have_versions_where_they_stand(here: Visit):
    before = talked(here, "one")
    again = visit.conclude(hearing(visit.ask_again(before), TextDelta("anew"), Finished(Usage())))
    assert [message.text for message in visit.versions(again, 1)] == ["to one", "anew"]
    assert len(visit.versions(again, 0)) == 1
    assert len(visit.versions(talked(again, "two"), 3)) == 1


def test_a_stop_is_remembered_with_its_way(here: Visit):
    stopped = visit.settle(hearing(asked(here, "one"), TextDelta("half")))
    second = changed(stopped, 0, "uno")
    assert second.stopped == frozenset()
    assert visit.turn_to(second, 0, 0).stopped == {1}
    assert visit.turn_to(second, 0, 7) == second


def test_undo_shortens_the_way_that_the_thread_is_on(here: Visit):
    undone = visit.undo(changed(talked(talked(here, "one"), "two"), 2, "due"))
    assert texts(undone) == ["one", "to one"]
    assert [message.text for message in visit.versions(talked(undone, "tre"), 2)] == ["two", "tre"]


def test_undo_returns_the_last_question(here: Visit):
    before = visit.settle(hearing(asked(talked(here, "one"), "two"), TextDelta("half")))
    after = visit.undo(before)
    assert texts(after) == ["one", "to one"]
    assert after.returned.text == "two" and after.stopped == frozenset()


def test_words_go_on_around_a_picture(here: Visit, keys: Keys):
    pixels = np.zeros((8, 8, 3), np.uint8)
    draft = speaking(asked(here, "draw"), keys).draft
    for event in (TextDelta("a"), TextDelta("b"), ImageReady(pixels, "black"), TextDelta("c")):
        draft = draft.plus(event)
    first, picture, last = draft.parts()
    assert (first, last) == (Text("ab"), Text("c")) and picture.caption == "black" and picture.path.exists()


def test_leaving_deletes_the_files(here: Visit):
    (here.folder / "a.txt").write_text("mine")
    visit.leave(here)
    assert not here.folder.exists()
    visit.leave(None)


def test_what_is_thought_of_a_reply_is_remembered_in_every_way_that_goes_through_it(here: Visit):
    rated = visit.rate(talked(talked(here, "one"), "two"), 1, True)
    changed = visit.conclude(hearing(visit.ask_instead(rated, 2, Text("other")), TextDelta("else"), Finished(Usage())))
    taken_back = visit.rate(changed, 1, False)
    assert [message.liked for message in taken_back.conversation.messages] == [None, False, None, None]
    assert texts(visit.turn_to(taken_back, 2, 0)) == ["one", "to one", "two", "to two"]
    assert visit.turn_to(taken_back, 2, 0).conversation.messages[1].liked is False
    assert visit.rate(taken_back, 0, True) is taken_back and visit.rate(taken_back, 9, True) is taken_back
