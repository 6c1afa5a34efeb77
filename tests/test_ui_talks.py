"""The line between a live tab and its conversation: what travels, what is refused, who comes back."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from media_files import jpeg_bytes, photo
from speaking import frames, silence, spoken
from starlette.applications import Starlette
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from omni.ui import talks
from omni.ui.pacing import OneAtATime
from omni.ui.talks import ADDRESS, SILENT, Talks


@pytest.fixture
def all_talks(tmp_path: Path) -> Talks:
    return Talks(FakeEngine(), OneAtATime(), tmp_path, minutes=1)


@pytest.fixture
def client(all_talks: Talks) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=[all_talks.route])) as client:
        yield client


def hello(line: WebSocketTestSession, name: str | None = None) -> dict:
    line.send_text(json.dumps({"kind": "hello", "name": name}))
    return json.loads(line.receive_text())


def command(line: WebSocketTestSession, kind: str, **more: object) -> None:
    line.send_text(json.dumps({"kind": kind, **more}))


def frame(samples: np.ndarray, place: int = SILENT) -> bytes:
    return struct.pack("<BI", 1, place) + (samples * 32767).astype("<i2").tobytes()


def until(line: WebSocketTestSession, kind: str, **values: object) -> tuple[dict, list[bytes]]:
    """The first message of a kind with such values, and the speech that came before it."""
    speech = []
    while True:
        message = line.receive()
        assert message["type"] == "websocket.send", message
        if message.get("bytes"):
            speech.append(message["bytes"])
            continue
        told = json.loads(message["text"])
        if told["kind"] == kind and all(told.get(name) == value for name, value in values.items()):
            return told, speech


def forgotten(all_talks: Talks) -> None:
    """Wait until nothing is left of any visitor; the test run's own limit ends a wait in vain."""
    while all_talks.all or any(all_talks.root.iterdir()):
        time.sleep(0.01)


def test_a_turn_goes_there_and_a_reply_comes_back(client: TestClient):
    with client.websocket_connect(ADDRESS) as line:
        assert hello(line)["anew"] is False
        command(line, "start", pause=0.3, voice="bass")
        assert until(line, "started")[0]["seconds"] == 60
        sent = frames(silence(0.2), spoken("question"), silence(0.5))
        for place, samples in enumerate(sent):
            line.send_bytes(frame(samples))
            if place == len(sent) // 2:
                line.send_bytes(b"\x02" + jpeg_bytes(photo()))
        done, speech = until(line, "turn", done=True)
        assert [part["kind"] for part in done["asked"]["parts"]] == ["image", "audio"]
        turn, rate, start = struct.unpack("<III", speech[1][:12])
        assert (turn, rate, start) == (1, 16_000, 1280)
        assert np.abs(np.frombuffer(speech[1][12:], "<i2")).max() == pytest.approx(0.3 * 32767, rel=0.01)


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        json.dumps({"kind": "shell"}),
        json.dumps({"kind": "start", "pause": "long"}),
        json.dumps({"kind": "start", "more": "x" * 3000}),
        b"",
        b"\x01short",
        b"\x07" + bytes(1028),
        b"\x02" + bytes(600_000),
    ],
)
def test_what_our_page_never_sends_closes_the_line(client: TestClient, all_talks: Talks, message: str | bytes):
    with pytest.raises(WebSocketDisconnect) as end, client.websocket_connect(ADDRESS) as line:
        hello(line)
        line.send_bytes(message) if isinstance(message, bytes) else line.send_text(message)
        while True:
            line.receive_text()
    assert end.value.code == 1003
    forgotten(all_talks)


def test_sound_that_comes_faster_than_time_passes_closes_the_line(client: TestClient):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(ADDRESS) as line:
        hello(line)
        command(line, "start")
        for samples in frames(silence(60.0)):
            line.send_bytes(frame(samples))
        while True:
            line.receive_text()


@pytest.mark.parametrize(("origin", "foreign"), [("https://evil.example", True), ("http://localhost:7860", False)])
def test_a_page_from_elsewhere_cannot_call_a_server_at_home(client: TestClient, origin: str, foreign: bool):
    headers = {"origin": origin, "host": "127.0.0.1:7860"}
    if not foreign:
        with client.websocket_connect(ADDRESS, headers=headers) as line:
            assert hello(line)["kind"] == "welcome"
        return
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(ADDRESS, headers=headers):
        pass


def test_a_page_whose_line_broke_finds_its_conversation_again(client: TestClient, all_talks: Talks):
    with client.websocket_connect(ADDRESS) as line:
        name = hello(line)["name"]
        talk = all_talks.all[name].talk
        line.close(1006)
    with client.websocket_connect(ADDRESS) as line:
        assert hello(line, name) == {"kind": "welcome", "name": name, "anew": False}
        assert all_talks.all[name].talk is talk
        with client.websocket_connect(ADDRESS) as other:  # while it is in use nobody else gets it
            assert hello(other, name)["name"] != name
    with client.websocket_connect(ADDRESS) as line:
        assert hello(line, "somebody unknown")["anew"] is True


def test_a_page_that_does_not_come_back_is_forgotten(client: TestClient, all_talks: Talks, monkeypatch):
    monkeypatch.setattr(talks, "RETURN", 0.0)
    with client.websocket_connect(ADDRESS) as line:
        hello(line)
        assert any(all_talks.root.iterdir())
        line.close(1006)
    forgotten(all_talks)


def test_only_so_many_talk_at_once(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(talks, "AT_ONCE", 1)
    with client.websocket_connect(ADDRESS) as first, client.websocket_connect(ADDRESS) as second:
        hello(first)
        hello(second)
        command(first, "start")
        until(first, "started")
        command(second, "start")
        assert "Too many people" in until(second, "over")[0]["sentence"]
        command(first, "stop")
        until(first, "state", state="idle")
        command(second, "start")
        until(second, "started")
