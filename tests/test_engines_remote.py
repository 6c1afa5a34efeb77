"""The remote engine on our own server: what comes through is what the engine says, event for event."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_engine import FakeEngine
from loopback import serving, until
from media_files import photo, tone
from primer_tiny import tiny_model, tiny_tokenizers
from starlette.applications import Starlette

from omni import media
from omni.conversation import Conversation, Message, Text
from omni.engine import Engine, Wish
from omni.engines.primer import PrimerEngine
from omni.engines.remote.engine import RemoteEngine
from omni.errors import OmniError
from omni.events import (
    ClipPreview,
    ClipReady,
    Finished,
    Heard,
    ImagePreview,
    ImageReady,
    Progress,
    SpeechChunk,
    TextDelta,
)
from omni.provenance.keys import Keys
from omni.serving.routes import routes
from omni.serving.turns import InTurn

KEY = "sesame"
UNMARKED = Keys(None, None)  # so that what comes is what was made


@pytest.fixture(scope="module")
def primer() -> PrimerEngine:
    return PrimerEngine(tiny_model(), tiny_tokenizers())


def far(engine: Engine, server: str = "openai") -> Iterator[RemoteEngine]:
    with serving(Starlette(routes=routes(InTurn(engine, 4), UNMARKED, KEY, upload_mb=20))) as address:
        yield RemoteEngine.open(server, f"{address}/v1", KEY)


@pytest.fixture(scope="module")
def remote(primer: PrimerEngine) -> Iterator[RemoteEngine]:
    yield from far(primer)


@pytest.fixture(scope="module")
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def remote_fake(fake: FakeEngine) -> Iterator[RemoteEngine]:
    yield from far(fake)


def asked(folder: Path, *parts) -> Conversation:
    return Conversation(folder, (Message("user", tuple(Text(p) if isinstance(p, str) else p for p in parts)),))


def wish(*outputs: str, **more) -> Wish:
    return Wish(outputs=frozenset(outputs) or None, seed=3, **more)


def told(events) -> list:
    """Everything but what is only being done."""
    return [event for event in events if not isinstance(event, Progress)]


def check_same(near: list, distant: list) -> None:
    """The same events, apart from times, the rounding of speech to 16 bits and the coding of a clip."""
    assert [type(event) for event in near] == [type(event) for event in distant]
    for here, there in zip(near, distant, strict=True):
        match here:
            case TextDelta() | Heard():
                assert here == there
            case SpeechChunk(samples, rate, start):
                assert (rate, start) == (there.rate, there.start)
                assert np.array_equal(sixteen(samples), sixteen(there.samples))
            case ImagePreview(pixels, done):
                assert done == there.done and np.array_equal(pixels, there.pixels)
            case ClipPreview(frame, index, total):
                assert (index, total) == (there.index, there.total) and np.array_equal(frame, there.frame)
            case ImageReady(pixels, caption):
                assert caption == there.caption and np.array_equal(pixels, there.pixels)
            case ClipReady(frames, fps, samples, rate, caption):
                assert (fps, caption, frames.shape) == (there.fps, there.caption, there.frames.shape)
                assert np.abs(frames.astype(int) - there.frames).mean() < 8  # H.264 twice
                assert len(samples) / rate == pytest.approx(len(there.samples) / there.rate, abs=1e-3)
            case Finished(usage, reason):
                assert (usage.tokens_in, usage.tokens_out) == (there.usage.tokens_in, there.usage.tokens_out)
                assert (reason, usage.speech_seconds) == (there.reason, pytest.approx(there.usage.speech_seconds))
                times = ("first_text", "first_speech", "image", "clip")
                assert [getattr(usage, name) is None for name in times] == [
                    getattr(there.usage, name) is None for name in times
                ]


def sixteen(samples: np.ndarray) -> np.ndarray:
    """The numbers of a 16-bit file of the samples."""
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="PCM_16")
    return np.frombuffer(file.getvalue()[44:], "<i2")


def test_capabilities_are_those_of_the_engine(primer, remote):
    assert replace(remote.capabilities, about="") == replace(primer.capabilities, about="", eager=False)
    assert primer.capabilities.about in remote.capabilities.about
    assert remote.name == "Primer"


@pytest.mark.parametrize(
    "wanted",
    [
        wish("text"),
        wish("text", "speech", max_tokens=200, voice="ben"),
        wish("image"),
        wish("text", "video"),
        wish("text", "speech", "image", temperature=0),
        wish(max_tokens=40),
    ],
    ids=lambda wanted: "+".join(sorted(wanted.outputs or {"as asked"})),
)
def test_events_come_through(wanted, primer, remote, tmp_path):
    question = asked(tmp_path, "draw a cat")
    check_same(told(primer.reply(question, wanted)), told(remote.reply(question, wanted)))


def test_every_kind_of_file_goes_through_and_what_was_heard_comes_back(primer, remote, tmp_path):
    picture = media.write_image(photo(160, 90), tmp_path)
    clip = media.write_video(np.zeros((8, 64, 64, 3), np.uint8), 4, tone(2.0), 16_000, tmp_path)
    sound = media.write_audio(tone(1.0), 16_000, tmp_path)
    question, wanted = asked(tmp_path, "what is this", sound, clip, picture), wish("text", max_tokens=400)
    near, distant = told(primer.reply(question, wanted)), told(remote.reply(question, wanted))
    assert type(near[0]) is type(distant[0]) is Heard
    assert near[-1].usage.tokens_in == distant[-1].usage.tokens_in


def test_an_earlier_reply_is_remembered_with_its_picture(primer, remote, tmp_path):
    drawn = media.write_image(photo(256, 256), tmp_path, "a cat on green")
    turns = (Message("user", (Text("draw a cat"),)), Message("assistant", (Text("Here is a cat."), drawn)))
    question = Conversation(tmp_path, (*turns, Message("user", (Text("make it blue"),))))
    check_same(told(primer.reply(question, wish("image"))), told(remote.reply(question, wish("image"))))


def test_what_is_being_done_comes_through(primer, remote, tmp_path):
    def doing(engine) -> list[str]:
        events = engine.reply(asked(tmp_path, "draw a cat"), wish("image"))
        return list(dict.fromkeys(event.doing for event in events if isinstance(event, Progress)))

    assert [one for one in doing(remote) if "server" not in one] == doing(primer)


def test_speech_becomes_the_very_file_that_it_is_in_process(primer, remote, tmp_path):
    def file(engine) -> bytes:
        events = engine.reply(asked(tmp_path, "hello"), wish("text", "speech", max_tokens=200))
        chunks = [event for event in events if isinstance(event, SpeechChunk)]
        samples = np.concatenate([chunk.samples for chunk in chunks])
        return media.write_audio(samples, chunks[0].rate, tmp_path).path.read_bytes()

    assert file(primer) == file(remote)


def test_what_the_engine_refuses_is_told_in_its_own_words(primer, remote, tmp_path):
    long = media.write_audio(tone(11.0), 16_000, tmp_path)
    for engine in (primer, remote):
        with pytest.raises(OmniError, match="10 seconds"):
            list(engine.reply(asked(tmp_path, long), wish("text")))


def test_a_reply_that_fails_on_the_way_is_cut_and_says_why(remote_fake, tmp_path):
    *_, last = events = told(remote_fake.reply(asked(tmp_path, "fail"), wish("text")))
    assert [event.text for event in events[:-1]] == ["I was about to "]
    assert (last.reason, last.why) == ("cut", "The model ran out of memory; try a shorter message.")


def test_a_fault_of_the_server_shows_no_trace(remote_fake, tmp_path):
    with pytest.raises(OmniError, match="Something went wrong in this server"):
        list(remote_fake.reply(asked(tmp_path, "break"), wish("text")))


def test_a_stop_here_ends_the_reply_there(remote_fake, fake, tmp_path):
    closed = fake.closed
    with closing(remote_fake.reply(asked(tmp_path, "slow"), wish())) as reply:
        next(event for event in reply if isinstance(event, SpeechChunk))
    until(lambda: fake.closed == closed + 1)
    until(lambda: fake.running == 0)


def test_who_waits_in_the_line_of_the_server_is_told_so(remote_fake, tmp_path):
    with closing(remote_fake.reply(asked(tmp_path, "slow"), wish())) as first:
        next(event for event in first if isinstance(event, TextDelta))
        with closing(remote_fake.reply(asked(tmp_path, "hello"), wish())) as second:
            assert next(event for event in second if getattr(event, "doing", "") == "Waiting for the model")


def test_the_other_dialects_speak_with_our_server_too(fake, tmp_path):
    for server in ("vllm", "sglang"):
        for engine in far(fake, server):
            events = told(engine.reply(asked(tmp_path, "hello"), wish("text", "speech")))
            assert "".join(e.text for e in events if isinstance(e, TextDelta)).startswith("You said: hello.")
            assert events[-1].usage.speech_seconds == pytest.approx(2.0)


def test_a_voice_or_an_output_that_is_not_there_is_refused_before_anything_is_sent(remote_fake, tmp_path):
    with pytest.raises(OmniError, match="no voice 'tenor'"):
        list(remote_fake.reply(asked(tmp_path, "hi"), wish("speech", voice="tenor")))


def test_a_page_in_front_of_a_server_needs_no_model_library():
    program = (
        "import sys, omni.engines.remote.engine; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1]).returncode == 0


def test_the_words_of_documents_come_before_the_question(tmp_path: Path, remote_fake: RemoteEngine):
    """All of them, though they are more than a visitor may type."""
    document = Text("notes.txt:\n\n" + "word" * 2_500, "notes.txt")
    events = list(remote_fake.reply(asked(tmp_path, document, "and now?"), wish("text")))
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert said.startswith("You said: notes.txt:") and "word\n\nand now?" in said
