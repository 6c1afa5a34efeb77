"""The remote engine on servers that others wrote: transformers' with tiny checkpoints, SGLang-Omni's over a script."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from loopback import until
from processes import REPOSITORY, running

from omni import media
from omni.conversation import Conversation, Message, Part, Text
from omni.engine import Wish
from omni.engines.remote.engine import RemoteEngine
from omni.events import Finished, SpeechChunk, TextDelta

SERVERS = REPOSITORY / "build" / "servers"


@pytest.fixture(scope="module", params=["words", "seeing"])
def transformers_serve(request, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """Its address, and its one checkpoint: it lists only the first that it was asked for."""
    import serve_tiny

    folder = tmp_path_factory.mktemp("serve")
    checkpoint = getattr(serve_tiny, f"save_{request.param}")(folder / request.param)
    (folder / "hub").mkdir()
    program = [str(Path(sys.executable).parent / "transformers"), "serve", "--device", "cpu", "--host", "127.0.0.1"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub"), "OMP_NUM_THREADS": "1"}
    log = folder / "server.log"
    with running(lambda port: [*program, "--port", str(port)], log, "/health", **offline) as address:
        yield f"{address}/v1", checkpoint


@pytest.fixture(scope="module")
def sglang(tmp_path_factory) -> Iterator[tuple[RemoteEngine, Path]]:
    if not (SERVERS / "sglang_omni").is_dir():
        pytest.skip("SGLang-Omni's protocol is not here; `make servers` brings it")
    script = [sys.executable, str(REPOSITORY / "tests" / "sglang_scripted.py"), str(SERVERS)]
    log = tmp_path_factory.mktemp("sglang") / "server.log"
    with running(lambda port: [*script, str(port)], log, "/health") as address:
        yield RemoteEngine.open("sglang", f"{address}/v1"), log


def asked(folder: Path, *parts: Part | str) -> Conversation:
    return Conversation(folder, (Message("user", tuple(Text(p) if isinstance(p, str) else p for p in parts)),))


def said(events) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("transformers_serve", ["words"], indirect=True)
def test_transformers_serve_streams_words(transformers_serve, tmp_path):
    address, words = transformers_serve
    engine = RemoteEngine.open("openai", address, model=str(words))
    assert engine.capabilities.outputs == {"text"}
    events = list(engine.reply(asked(tmp_path, "hello"), Wish(temperature=0, max_tokens=12)))
    assert sum(isinstance(event, TextDelta) for event in events) > 1
    assert events[-1].reason == "length"
    assert events[-1].usage.tokens_out == {"text": 12}
    assert events[-1].usage.first_text > 0


@pytest.mark.parametrize("transformers_serve", ["seeing"], indirect=True)
def test_transformers_serve_sees_the_picture_that_is_sent(transformers_serve, tmp_path):
    address, seeing = transformers_serve
    engine = RemoteEngine.open("openai", address, model=str(seeing))
    pictures = [media.write_image(np.full((48, 64, 3), grey, np.uint8), tmp_path) for grey in (0, 255)]
    wish = Wish(outputs=frozenset({"text"}), temperature=0, max_tokens=12)
    black, white, again = (
        said(engine.reply(asked(tmp_path, picture, "what is it?"), wish)) for picture in (*pictures, pictures[0])
    )
    assert black == again != white


@pytest.mark.parametrize("transformers_serve", ["words"], indirect=True)
def test_a_reply_of_transformers_serve_can_be_stopped_and_the_next_one_comes(transformers_serve, tmp_path):
    address, words = transformers_serve
    engine = RemoteEngine.open("openai", address, model=str(words))
    with closing(engine.reply(asked(tmp_path, "hello"), Wish(temperature=0, max_tokens=1900))) as reply:
        next(event for event in reply if isinstance(event, TextDelta))
    events = list(engine.reply(asked(tmp_path, "hello"), Wish(temperature=0, max_tokens=2)))
    assert isinstance(events[-1], Finished)


def test_sglang_omni_streams_words_and_speech(sglang, tmp_path):
    engine, log = sglang
    assert engine.name == "Qwen3-Omni"
    assert engine.capabilities.outputs == {"text", "speech"}
    events = list(engine.reply(asked(tmp_path, "hello"), Wish(outputs=frozenset({"text", "speech"}), max_tokens=99)))
    chunks = [event for event in events if isinstance(event, SpeechChunk)]
    assert said(events) == "Good morning."
    assert [chunk.start for chunk in chunks] == [0, 2400, 4800]
    assert [round(float(chunk.samples.mean()), 3) for chunk in chunks] == [0.125, 0.25, 0.375]
    assert (events[-1].reason, events[-1].usage.tokens_in) == ("length", {"text": 11})
    assert '"max_new_tokens": 99' in log.read_text() and '"format": "pcm"' in log.read_text()


def test_what_sglang_omni_takes_is_what_we_send(sglang, tmp_path):
    engine, log = sglang
    picture = media.write_image(np.zeros((8, 8, 3), np.uint8), tmp_path)
    sound = media.write_audio(np.zeros(1600, np.float32), 16_000, tmp_path)
    list(engine.reply(asked(tmp_path, picture, sound, "what is this?"), Wish(seed=7)))
    last = log.read_text().rpartition("asked ")[2]
    assert '"seed": 7' in last and "data:image/png;base64" in last and '"format": "wav"' in last


def test_an_error_of_sglang_omni_is_told_in_its_words(sglang, tmp_path):
    with pytest.raises(Exception, match="the talker has no voice"):
        list(sglang[0].reply(asked(tmp_path, "fail"), Wish()))


def test_a_stop_is_seen_by_sglang_omni(sglang, tmp_path):
    engine, log = sglang
    left = log.read_text().count("left")
    with closing(engine.reply(asked(tmp_path, "endless"), Wish())) as reply:
        next(event for event in reply if isinstance(event, TextDelta))
    until(lambda: log.read_text().count("left") == left + 1)
