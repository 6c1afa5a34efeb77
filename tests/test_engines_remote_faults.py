"""Everything that can go wrong between here and a server, against servers on this machine that do it."""

from __future__ import annotations

import base64
import json
import logging
import resource
import socket
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import QUICK, Exchange, delta, scripted, until

from omni.conversation import Conversation, Message, Text
from omni.engine import Wish
from omni.engines.remote import faults
from omni.engines.remote.engine import RemoteEngine
from omni.engines.remote.faults import seconds
from omni.engines.remote.line import checked
from omni.engines.remote.sse import Events
from omni.errors import OmniError
from omni.events import Finished, Progress, TextDelta

KEY = "sk-never-to-be-seen"
TEXT = Wish(outputs=frozenset({"text"}))


def opened(address: str, server: str = "dashscope", **more) -> RemoteEngine:
    """DashScope's dialect asks for nothing at the start but the models."""
    return RemoteEngine.open(server, address, KEY, patience=QUICK, **more)


def asked(folder: Path, words: str = "hello") -> Conversation:
    return Conversation(folder, (Message("user", (Text(words),)),))


def said(events) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def answer(script, folder: Path, caught: type[Exception] | None = None):
    """What an engine says to a scripted server: its events, or its error."""
    with scripted(script) as server:
        engine = opened(server.address)
        started = time.monotonic()
        if caught is None:
            events = list(engine.reply(asked(folder), TEXT))
        else:
            with pytest.raises(caught) as error:
                list(engine.reply(asked(folder), TEXT))
            events = error.value
        assert time.monotonic() - started < 10
    return events, server


def good(exchange: Exchange) -> None:
    exchange.head()
    exchange.sse(delta("good "), delta("morning"), delta(finish="stop"), b"[DONE]")
    exchange.end()


def test_a_server_that_is_not_there_is_named_at_the_start():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(OmniError, match=f"{address} cannot be used. The model's server cannot be reached"):
            opened(address)


def test_a_key_that_is_refused_is_a_sentence_without_the_key(tmp_path, caplog):
    def script(exchange):
        exchange.json({"error": {"message": f"Incorrect API key: {exchange.headers['Authorization']}"}}, 401)

    error, server = answer(script, tmp_path, faults.KeyRefused)
    assert server.chats()[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(error)


@pytest.mark.parametrize("status", [400, 422, 500])
def test_what_a_server_says_is_shown_without_the_key(status, tmp_path):
    error, _ = answer(lambda e: e.json({"error": {"message": f"bad {KEY} given"}}, status), tmp_path, OmniError)
    assert "bad *** given" in str(error)


def test_a_model_that_is_not_there_is_named_with_those_that_are():
    with scripted(good) as server, pytest.raises(OmniError, match="no model 'other'; it has tiny/Omni"):
        opened(server.address, model="other")


def test_a_model_that_is_gone_later_is_a_sentence(tmp_path):
    error, _ = answer(lambda e: e.json({"error": {"message": "model not found"}}, 404), tmp_path, faults.Unknown)
    assert "model not found" in str(error)


def test_a_busy_server_is_asked_again_when_it_says_so(tmp_path):
    def script(exchange):
        if len(server_asked) == 0:
            server_asked.append(exchange)
            exchange.json({"error": {"message": "slow down"}}, 429, Retry_After="0.3")
        else:
            good(exchange)

    server_asked: list[Exchange] = []
    events, server = answer(script, tmp_path)
    assert said(events) == "good morning"
    assert len(server.chats()) == 2
    assert any(isinstance(one, Progress) and "trying again" in one.doing for one in events)


def test_a_server_that_is_busy_for_long_is_not_asked_again(tmp_path):
    error, server = answer(lambda e: e.json({}, 429, Retry_After="90"), tmp_path, faults.Busy)
    assert "in 90 seconds" in str(error)
    assert len(server.chats()) == 1


def test_a_server_that_stays_away_is_given_up_after_three_tries(tmp_path):
    _, server = answer(lambda e: e.json({}, 503, Retry_After="0"), tmp_path, faults.ServerFailed)
    assert len(server.chats()) == 3


def test_a_fault_of_the_server_is_not_repeated(tmp_path):
    error, server = answer(lambda e: e.json({"detail": "out of memory"}, 500), tmp_path, faults.ServerFailed)
    assert "out of memory" in str(error)
    assert len(server.chats()) == 1


def test_silence_before_the_first_word_ends(tmp_path):
    error, _ = answer(lambda e: e.wait_until_gone(), tmp_path, faults.TooSlow)
    assert "silent for 1 seconds" in str(error)


def test_silence_between_words_ends_and_what_came_stays(tmp_path):
    def script(exchange):
        exchange.head()
        exchange.sse(delta("half a "))
        exchange.wait_until_gone()

    events, _ = answer(script, tmp_path)
    assert said(events) == "half a "
    assert events[-1].reason == "cut" and "silent" in events[-1].why


def test_a_drop_in_mid_stream_leaves_what_came(tmp_path):
    def script(exchange):
        exchange.head()
        exchange.sse(delta("half a "))

    events, server = answer(script, tmp_path)
    assert said(events) == "half a "
    assert isinstance(events[-1], Finished) and events[-1].reason == "cut" and "broke off" in events[-1].why
    assert len(server.chats()) == 1


def test_a_stream_that_ends_early_in_good_form_is_a_drop_too(tmp_path):
    def script(exchange):
        exchange.head()
        exchange.sse(delta("half a "))
        exchange.end()

    events, _ = answer(script, tmp_path)
    assert events[-1].reason == "cut"


def test_a_drop_before_the_first_word_is_an_error(tmp_path):
    error, _ = answer(lambda e: (e.head(), e.sse(delta())), tmp_path, faults.BrokenOff)
    assert "broke off" in str(error)


def test_a_connection_that_is_closed_at_once_is_tried_again(tmp_path):
    def script(exchange):
        tries.append(1)
        if len(tries) > 1:
            good(exchange)

    tries: list[int] = []
    events, _ = answer(script, tmp_path)
    assert said(events) == "good morning"


@pytest.mark.parametrize("value", [{"error": {"message": "CUDA out of memory"}}, {"error": "CUDA out of memory"}])
def test_an_error_inside_the_stream_cuts_the_reply_with_its_words(value, tmp_path):
    def script(exchange):
        exchange.head()
        exchange.sse(delta("half a "), value, b"[DONE]")
        exchange.end()

    events, _ = answer(script, tmp_path)
    assert said(events) == "half a "
    assert events[-1].why == "CUDA out of memory."


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"null",
        b'{"choices": 3}',
        b'{"choices": [{"delta": {"content": 7}}]}',
        b'{"choices": [{"delta": {"audio": {"data": "%%%"}}}]}',
        b'{"choices": [{"delta": {"content": [{"type": "image_url", "image_url": {"url": "https://a.example/x"}}]}}]}',
        b'{"choices": [{"delta": {"content": [{"type": "image_url", "image_url": {"url": "data:;base64,AAAA"}}]}}]}',
        b'{"omni": {"preview": {"width": 8000, "height": 8000, "rgb": ""}}}',
        b'{"omni": {"preview": {"width": 8, "height": 8, "rgb": "AAAA"}}}',
        b"[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_garbage_is_called_so(data, tmp_path):
    def script(exchange):
        exchange.head()
        exchange.sse(data)
        exchange.end()

    error, _ = answer(script, tmp_path, faults.Garbled)
    assert str(error).endswith((".", "?"))


def test_a_chunk_of_a_hundred_megabytes_is_refused_within_bounds(tmp_path):
    def script(exchange):
        exchange.head()
        exchange.send(b"data: ")
        for _ in range(100):
            exchange.send(b"x" * 2**20)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error, _ = answer(script, tmp_path, faults.Garbled)
    assert "larger" in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_a_reply_without_end_is_ended(tmp_path):
    def script(exchange):
        exchange.head()
        while True:
            exchange.send(b": still here\n\n" * 4096)

    with scripted(script) as server:
        engine = RemoteEngine.open("dashscope", server.address, patience=replace(QUICK, whole=1.0))
        with pytest.raises(OmniError):
            list(engine.reply(asked(tmp_path), TEXT))


@pytest.mark.parametrize("kind", ["text/html", "application/json", ""])
def test_another_kind_of_answer_is_named(kind, tmp_path):
    def script(exchange):
        exchange.head(kind=kind)
        exchange.send(b"<html>sign in</html>")
        exchange.end()

    error, _ = answer(script, tmp_path, faults.Garbled)
    assert "address" in str(error)


def test_compressed_answers_are_not_unfolded(tmp_path):
    def script(exchange):
        exchange.head(Content_Encoding="gzip")
        exchange.send(b"\x1f\x8b")
        exchange.end()

    error, server = answer(script, tmp_path, faults.Garbled)
    assert server.chats()[0].headers["Accept-Encoding"] == "identity"
    assert "compressed" in str(error)


def test_nobody_is_followed_to_another_address(tmp_path):
    answer(lambda e: e.json({}, 307, Location="http://127.0.0.1:9/"), tmp_path, faults.Unknown)


def test_a_stop_closes_the_stream_while_the_server_is_silent(tmp_path):
    def script(exchange):
        exchange.head()
        exchange.sse(delta("one "))
        exchange.wait_until_gone()

    with scripted(script) as server:
        engine = RemoteEngine.open("dashscope", server.address, KEY)
        with closing(engine.reply(asked(tmp_path), TEXT)) as reply:
            next(event for event in reply if isinstance(event, TextDelta))
            stopped = time.monotonic()
        assert time.monotonic() - stopped < 2
        until(lambda: server.chats()[0].gone.is_set())


def test_the_key_is_in_no_log_no_error_and_no_conversation(tmp_path, caplog):
    def script(exchange):
        exchange.head()
        exchange.sse(delta(KEY[:4]), {"error": {"message": f"no credit on {KEY}"}})

    caplog.set_level(logging.DEBUG)
    with scripted(script) as server:
        engine = opened(server.address)
        events = list(engine.reply(asked(tmp_path), TEXT))
        broken = list(opened(server.address).reply(asked(tmp_path), TEXT))
    assert "no credit on ***" in events[-1].why
    shown = [caplog.text, repr(engine), repr(engine.capabilities), repr(engine.offer), repr(events), repr(broken)]
    assert not [text for text in shown if KEY in text]
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", "--base-url"),
        ("http://example.org/v1", "Plain http"),
        ("http://192.168.1.4:8000/v1", "Plain http"),
        ("http://127.0.0.1.example.org/v1", "Plain http"),
        ("ftp://127.0.0.1/v1", "no address"),
        ("https://name:word@example.org/v1", "OMNI_REMOTE_KEY"),
        ("https://example.org/v1?key=1", "OMNI_REMOTE_KEY"),
    ],
)
def test_an_address_that_may_not_be_used_is_refused_with_a_sentence(address, sentence):
    with pytest.raises(OmniError, match=sentence):
        checked(address)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8091/v1/", "http://[::1]:8091/v1", "http://localhost/v1"])
def test_plain_http_to_this_machine_is_fine(address):
    assert checked(address) == address.rstrip("/")


def test_events_are_joined_from_blocks_that_end_anywhere():
    stream = b": hi\r\nevent: x\r\ndata: one\r\n\r\ndata:two\ndata: three\n\n\n\ndata: [DONE]\n\n"
    for size in (1, 2, 7, 1000):
        events = Events()
        found = [one for at in range(0, len(stream), size) for one in events.feed(stream[at : at + size])]
        assert found == [b"one", b"two\nthree", b"[DONE]"]


def test_retry_after_is_a_number_or_a_date():
    assert seconds("7") == 7
    assert seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert seconds("soon") is seconds(None) is None


def test_speech_that_ends_in_the_middle_of_a_sample_goes_on_in_the_next_chunk(tmp_path):
    content = bytes(range(40))

    def script(exchange):
        exchange.head()
        for piece in (content[:7], content[7:8], content[8:]):
            sound = {"audio": {"data": base64.b64encode(piece).decode()}}
            exchange.sse({"choices": [{"index": 0, "delta": sound}]})
        exchange.sse(delta(finish="stop"), b"[DONE]")
        exchange.end()

    models = {"data": [{"id": "qwen3.5-omni-plus"}]}
    with scripted(script, models) as server:
        wish = Wish(outputs=frozenset({"text", "speech"}))
        chunks = [one for one in opened(server.address).reply(asked(tmp_path), wish) if hasattr(one, "samples")]
    assert [one.start for one in chunks] == [0, 3, 4]
    numbers = b"".join((one.samples * 32768).astype("<i2").tobytes() for one in chunks)
    assert numbers == content
    assert json.loads(server.chats()[0].raw)["audio"] == {"format": "wav", "voice": "Tina"}
