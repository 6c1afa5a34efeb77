"""The inside of a reply as plain values: tokens and experts, pace, stages, amounts."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omni.conversation import Audio, Image, Message, Text, Video
from omni.events import Finished, Routed, Span, Telemetry, TextDelta, Usage
from omni.ui.look import Look, amounts, title_of

QUESTION = Message("user", (Text("draw  a\ncat"),))
PICTURE, SOUND = Image(Path("a.png"), 8, 8), Audio(Path("a.wav"), 2.5, 16_000)
CLIP = Video(Path("a.mp4"), 8, 8, 2.0, 4.0, True)


def routed(kinds: str, experts: list, read: bool = False, pool: str = "experts") -> Routed:
    """Tokens of one layer with two experts each, of four; ``kinds`` as letters: t, i, m."""
    names = {"t": "text", "i": "image", "m": "mark"}
    pieces = tuple("cat" if kind == "t" else "" for kind in kinds)
    return Routed(pool, read, tuple(names[kind] for kind in kinds), pieces, np.array(experts, np.int16)[:, None], 4)


def telemetry(*runs: Routed, seconds: float = 0.25, made: int = 2) -> Telemetry:
    return Telemetry(seconds, runs, {"text": made}, 20, 4, 4096, 0.01, 300, 400)


@pytest.fixture
def look() -> Look:
    return Look("turn", QUESTION, asked=0.0)


def way(packed: str) -> list:
    return np.frombuffer(base64.b64decode(packed), "<i2").tolist()


def test_runs_keep_the_order_of_tokens_with_their_kinds_pieces_and_experts(look):
    look.take([telemetry(routed("tti", [[0, 1], [2, 3], [1, 0]]))])
    look.take([TextDelta("x")])
    look.take([telemetry(routed("i", [[3, 2]]), routed("t", [[0, 2]], pool="talker"))])
    value = look.tokens_value()
    [[pool, kinds, pieces, packed]] = value["runs"]["0"]
    assert (pool, kinds, pieces) == ("experts", [["text", 2], ["image", 1]], ["cat", "cat", ""])
    assert way(packed) == [0, 1, 2, 3, 1, 0]
    assert [run[0] for run in value["runs"]["1"]] == ["experts", "talker"]
    assert value["runs"]["1"][0][2] == []
    assert value["pools"]["talker"] == {"layers": 1, "experts": 4, "k": 2}


def test_what_was_read_is_counted_and_not_listed(look):
    look.take([telemetry(routed("tti", [[0, 1], [0, 2], [3, 0]], read=True))])
    look.take([telemetry(routed("t", [[0, 1]], read=True))])
    value = look.tokens_value()
    assert value["runs"] == {}
    counts = {
        kind: np.frombuffer(base64.b64decode(text), "<i4").tolist() for kind, text in value["read"]["experts"].items()
    }
    assert counts == {"text": [3, 2, 1, 0], "image": [1, 0, 0, 1]}


def test_a_value_only_grows_so_that_its_difference_is_small(look):
    look.take([telemetry(routed("t", [[0, 1]]))])
    before = look.tokens_value()["runs"], look.turn_value()["pace"]
    look.take([telemetry(routed("t", [[0, 1]]), seconds=0.5)])
    after = look.tokens_value()["runs"], look.turn_value()["pace"]
    for old, new in zip(before, after, strict=True):
        assert len(old) == 1 and len(new) == 2
        assert all(new[key] is old[key] for key in old)


def test_a_token_that_no_expert_took_counts_for_none(look):
    look.take([telemetry(routed("tm", [[0, 1], [-1, -1]]))])
    look.take([Finished(Usage())])
    look.end((QUESTION, Message("assistant", (Text("cat"),))))
    assert way(look.tokens_value()["runs"]["0"][0][3]) == [0, 1, -1, -1]
    assert look.tokens_value()["alike"] == {}  # there is one modality alone


def test_modality_tells_all_of_the_experts_where_each_has_its_own(look):
    look.take([telemetry(routed("tt", [[0, 1]] * 2, read=True), routed("iim", [[2, 3]] * 3))])
    look.take([Finished(Usage())])
    look.end((QUESTION, Message("assistant", (PICTURE,))))
    assert look.tokens_value()["alike"] == {"experts": [1.0]}


def test_a_finished_turn_has_its_stages_amounts_and_waiting(look):
    usage = Usage(seconds=1.0, spans=(Span("prefill", 0.0, 0.2),), joules={"GPU": 3.0})
    look.take([telemetry(routed("t", [[0, 1]])), Finished(usage)])
    thread = (replace(QUESTION, parts=(PICTURE, SOUND)), Message("assistant", (Text("cat"), CLIP)))
    look.end(thread)
    turn = look.turn_value()
    assert turn["state"] == "done"
    assert turn["usage"]["spans"] == ({"name": "prefill", "start": 0.0, "end": 0.2},)
    assert turn["usage"]["joules"] == {"GPU": 3.0}
    assert turn["pace"] == {"0": [0.25, 2, 20, 4, 4096, 0.01, 300, 400]}
    assert turn["media"]["in"] == {"pictures": 1, "sound": 2.5, "clips": 0.0}
    assert turn["media"]["out"] == {"pictures": 0, "sound": 0.0, "clips": 2.0}
    assert turn["waited"] > 0 and turn["files"] >= 0


def test_a_reply_that_was_stopped_keeps_what_was_seen(look):
    look.take([telemetry(routed("t", [[0, 1]]))])
    look.end((QUESTION, Message("assistant", ())))
    assert look.tokens_value()["state"] == look.turn_value()["state"] == "stopped"
    assert look.turn_value()["usage"] is None
    assert look.tokens_value()["runs"]


def test_an_engine_that_tells_nothing_still_has_its_figures(look):
    look.take([Finished(Usage(seconds=1.0))])
    look.end((QUESTION, Message("assistant", (Text("cat"),))))
    assert look.tokens_value()["pools"] == {}
    assert look.turn_value()["usage"]["seconds"] == 1.0


def test_amounts_of_media_and_the_title_of_a_question():
    assert amounts([PICTURE, PICTURE, SOUND, CLIP, Text("x")]) == {"pictures": 2, "sound": 2.5, "clips": 2.0}
    assert title_of(QUESTION) == "draw a cat"
    assert title_of(Message("user", (PICTURE, Text("what?")))) == "what? with a picture"
    assert len(title_of(Message("user", (Text("long " * 50),)))) == 90
