"""What the page is told: thread, voice and status as plain values."""

from __future__ import annotations

import base64
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from omni.conversation import Audio, Conversation, Message, Text
from omni.engine import Capabilities
from omni.events import Finished, ImageReady, SpeechChunk, Usage
from omni.provenance.imprint import Imprint
from omni.provenance.keys import UNREADABLE, Keys
from omni.ui import player
from omni.ui.composer import label
from omni.ui.draft import Draft
from omni.ui.player import SILENT, Voice
from omni.ui.status import finished, took
from omni.ui.suggestions import SUGGESTIONS, suggestions_for
from omni.ui.thread import message_value

SOUND = Audio(Path("a.wav"), 1.0, 16_000, "hello there")


@pytest.mark.parametrize(
    "text", ["<script>x</script>", "<img src=x onerror=x>", "[a](javascript:x)", "![a](http://x/y)"]
)
def test_markup_in_words_stays_words(text: str):
    html = message_value(Message("assistant", (Text(text),)))["parts"][0]["html"]
    assert not any(tag in html for tag in ("<script", "<img", 'href="javascript'))


@pytest.mark.parametrize("text", ["<think>\n**hm** <b>\n</think>\nYes.", "<think>\n**hm** <b>"])
def test_thoughts_are_folded_while_they_come_and_afterwards(text: str):
    html = message_value(Message("assistant", (Text(text),)))["parts"][0]["html"]
    assert html.startswith("<details><summary>Thoughts</summary><p><strong>hm</strong> &lt;b&gt;</p>")
    assert html.endswith("<p>Yes.</p>\n" if "Yes" in text else "</details>")


def test_a_transcript_is_shown_where_there_are_no_written_words():
    alone = message_value(Message("assistant", (SOUND,)))
    beside = message_value(Message("assistant", (Text("hello there"), SOUND)))
    assert alone["parts"][0]["caption"] == "hello there"
    assert beside["parts"][1]["caption"] == ""


def chunks(count: int) -> tuple[SpeechChunk, ...]:
    return tuple(SpeechChunk(np.full(1600, 0.5, np.float32), 16_000, 1600 * index) for index in range(count))


def test_chunks_become_blocks_of_sixteen_bit_samples():
    value = Voice("a").value(chunks(3))
    assert (value["name"], value["rate"], list(value["blocks"])) == ("a", 16_000, ["0"])
    samples = np.frombuffer(base64.b64decode(value["blocks"]["0"]), "<i2")
    assert len(samples) == 4800 and samples[0] == 16383
    assert Voice("a").value(()) == SILENT


def test_blocks_join_to_the_whole_speech_and_few_are_kept(monkeypatch: pytest.MonkeyPatch):
    clock = count(step=0.05)
    monkeypatch.setattr(player.time, "monotonic", lambda: next(clock))
    voice, speech, heard = Voice("a"), chunks(200), {}
    for length in range(1, 201):
        blocks = voice.value(speech[:length])["blocks"]
        assert len(blocks) <= player.KEPT
        heard |= blocks
    heard |= voice.value(speech, complete=True)["blocks"]
    assert sum(len(base64.b64decode(block)) for block in heard.values()) == 2 * 1600 * 200


def test_the_figures_of_a_reply_name_what_there_was():
    usage = Usage({"text": 20}, {"text": 80, "image": 64}, 3.44, 1.5, first_text=0.31, image=2.06)
    assert took(usage) == [
        "first words 0.3 s",
        "picture 2.1 s",
        "all 3.4 s",
        "1.5 s of speech",
        "in 20 tokens (20 text)",
        "out 144 tokens (80 text, 64 picture)",
    ]


def test_what_kept_a_file_from_being_signed_stands_before_the_figures(tmp_path: Path, keys: Keys):
    asked = Conversation(tmp_path, (Message("user", (Text("draw"),)),))
    imprint = Imprint(tmp_path, replace(keys, signing=None, trouble=UNREADABLE), "Fake", asked)
    draft = Draft(imprint).plus(ImageReady(np.zeros((8, 8, 3), np.uint8))).plus(Finished(Usage(seconds=1.0)))
    assert finished(draft)["more"] == f"{UNREADABLE} · all 1.0 s"
    assert finished(Draft().plus(Finished(Usage(seconds=1.0))))["more"] == "all 1.0 s"


def test_who_signed_an_upload_is_shown_with_it():
    signed = replace(SOUND, credentials="signed by somebody")
    assert message_value(Message("user", (signed,)))["parts"][0]["caption"] == "hello there · signed by somebody"
    assert label(signed) == "1.0 s, signed by somebody"


def test_suggestions_ask_only_for_what_the_engine_has():
    writes = Capabilities(frozenset({"text"}), frozenset({"text"}), (), 100, "")
    assert suggestions_for(writes)
    assert all(one.gives == "text" and not one.takes for one in suggestions_for(writes))


def test_suggestions_show_every_way_in_and_out():
    assert {kind for one in SUGGESTIONS for kind in one.takes} == {"image", "audio", "video"}
    assert {one.gives for one in SUGGESTIONS} == {"text", "speech", "image", "video"}
    assert len(SUGGESTIONS) == 12
