"""Our own server, asked by OpenAI's client and by plain HTTP: the scripted engine behind it, files and limits real."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import soundfile
from fake_engine import FakeEngine
from loopback import serving, until
from media_files import pdf_bytes
from PIL import Image
from starlette.applications import Starlette

from omni import media
from omni.provenance.check import check
from omni.provenance.credentials import Claim, read, sign
from omni.provenance.keys import Keys, open_keys
from omni.serving.routes import routes
from omni.serving.turns import InTurn

KEY = "sesame"


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def turns(engine: FakeEngine) -> InTurn:
    return InTurn(engine, 2)


@pytest.fixture(scope="module")
def address(turns: InTurn, keys: Keys) -> Iterator[str]:
    with serving(Starlette(routes=routes(turns, keys, KEY, upload_mb=1))) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)


@pytest.fixture(scope="module")
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        yield client


def user(content) -> list[dict]:
    return [{"role": "user", "content": content}]


def inline(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def test_the_model_is_listed_with_what_it_can_do(client):
    (model,) = client.models.list().data
    assert model.id == "Fake"
    assert model.omni["voices"] == ["alto", "bass", "hoarse"]
    assert client.models.retrieve("Fake").id == "Fake"


def test_health_needs_no_key_and_everything_else_does(address):
    assert httpx.get(f"{address}/health").json() == {"status": "ok"}
    for key in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}):
        refused = httpx.get(f"{address}/v1/models", headers=key)
        assert refused.status_code == 401
        assert "key" in refused.json()["error"]["message"]


def test_words_stream_as_deltas_and_end_with_usage(client):
    stream = client.chat.completions.create(
        model="fake", messages=user("good morning"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    words = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(words) == "You said: good morning. It **went** well. "
    assert len(words) > 4
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 30


def test_nothing_said_of_modalities_is_words_alone_and_no_list(client):
    reply = client.chat.completions.create(model="Fake", messages=user("hello"))
    assert reply.choices[0].message.content
    for chunk in client.chat.completions.create(model="Fake", messages=user("hello"), stream=True):
        assert isinstance(chunk.choices[0].delta.content or "", str)
        assert not (chunk.model_extra or {}).get("omni")


def test_speech_streams_as_pcm16_at_openais_rate(client):
    stream = client.chat.completions.create(
        model="Fake",
        messages=user("hello"),
        modalities=["text", "audio"],
        audio={"voice": "alto", "format": "pcm16"},
        stream=True,
    )
    sound, metadata = b"", []
    for chunk in stream:
        delta = chunk.choices[0].delta if chunk.choices else None
        if audio := getattr(delta, "audio", None):
            sound += base64.b64decode(audio.data)
            metadata.append(chunk.choices[0].audio_metadata)
    samples = np.frombuffer(sound, "<i2") / 32767
    assert len(samples) == 2 * 24_000
    assert np.abs(np.fft.rfft(samples)).argmax() / 2 == 440
    assert len(metadata) > 5 and metadata[0]["sample_rate_hz"] == 24_000


@pytest.mark.parametrize("kind", ["wav", "pcm16"])
def test_a_whole_reply_carries_its_speech_as_a_file(client, kind):
    reply = client.chat.completions.create(
        model="Fake", messages=user("hello"), modalities=["text", "audio"], audio={"voice": "bass", "format": kind}
    )
    audio = reply.choices[0].message.audio
    content = base64.b64decode(audio.data)
    if kind == "pcm16":
        samples, rate = np.frombuffer(content, "<i2"), 24_000
    else:
        samples, rate = soundfile.read(io.BytesIO(content))
    assert len(samples) / rate == pytest.approx(2.0, abs=0.1)
    assert audio.transcript == reply.choices[0].message.content


def test_a_picture_comes_as_a_content_part(http):
    body = {"messages": user("please"), "modalities": ["image"]}
    (part,) = http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    content = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(content)).size == (64, 64)
    assert part["caption"] == "a white square on green"


def test_files_in_a_message_reach_the_model(client, samples):
    content = [
        {"type": "image_url", "image_url": {"url": inline(samples / "blue.png", "image/png")}},
        {"type": "input_audio", "input_audio": {"data": inline(samples / "tone.wav", "")[13:], "format": "wav"}},
        {"type": "video_url", "video_url": {"url": inline(samples / "grey.mp4", "video/mp4")}},
        {"type": "text", "text": "what is this?"},
    ]
    reply = client.chat.completions.create(model="Fake", messages=user(content))
    told = reply.choices[0].message.content
    assert told.startswith("a picture of 20 40 220 and a sound of 523 Hz and a clip of 96x64, 2.0 s")


def attach(name: str, content: bytes, kind: str = "application/pdf") -> list[dict]:
    data = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return [{"type": "file", "file": {"filename": name, "file_data": data}}, {"type": "text", "text": "what is it?"}]


@pytest.mark.parametrize(
    ("name", "content", "kind", "told"),
    [
        ("x.pdf", pdf_bytes("a red square"), "application/pdf", "a document ending in square and a picture of "),
        ("no name that tells", pdf_bytes("a red square"), "", "a document ending in square and a picture of "),
        ("../../notes.md", "fünf Äpfel".encode(), "text/markdown", "a document ending in Äpfel"),
        ("😀" * 300 + ".txt", b"five apples", "text/plain", "a document ending in apples"),
    ],
)
def test_a_document_reaches_the_model_as_words_and_pages(client, name, content, kind, told):
    reply = client.chat.completions.create(model="Fake", messages=user(attach(name, content, kind)))
    assert reply.choices[0].message.content.startswith(told)


def test_a_file_may_be_a_picture_too(client, samples):
    content = attach("x.png", (samples / "blue.png").read_bytes(), "image/png")
    reply = client.chat.completions.create(model="Fake", messages=user(content))
    assert reply.choices[0].message.content.startswith("a picture of 20 40 220")


def test_earlier_turns_are_taken_with_their_pictures(http, samples):
    picture = {"type": "image_url", "image_url": {"url": inline(samples / "blue.png", "image/png")}, "caption": "blue"}
    messages = [
        *user("draw blue"),
        {"role": "assistant", "content": [picture, {"type": "text", "text": "Here it is."}]},
        {"role": "assistant", "content": None},
        *user("thank you"),
    ]
    assert http.post("/v1/chat/completions", json={"messages": messages}).status_code == 200


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "be kind"}, *user("hello")]}, "No system message"),
        ({"messages": [{"role": "assistant", "content": "hello"}]}, "last message"),
        ({"messages": user("")}, "nothing to send"),
        ({"messages": user([])}, "empty"),
        ({"messages": user("x" * 100_001)}, "too long"),
        ({"messages": user([{"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}])}, "No address"),
        ({"messages": user([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])}, "No address"),
        (
            {"messages": user([{"type": "image_url", "image_url": {"url": "data:;base64,aGVsbG8="}}])},
            "none of the kinds",
        ),
        ({"messages": user([{"type": "image_url", "image_url": {"url": "data:;base64,%%"}}])}, "no valid base64"),
        ({"messages": user([{"type": "smell"}])}, "smell"),
        ({"messages": user([{"type": "file"}])}, "without its file"),
        ({"messages": user([{"type": "file", "file": {"file_id": "file-1"}}])}, "No file is kept here"),
        ({"messages": user([{"type": "file", "file": {"file_data": "https://a.example/x.pdf"}}])}, "No address"),
        ({"messages": user([{"type": "file", "file": {"filename": "x.txt", "file_data": "AAEC"}}])}, "no text"),
        ({"messages": user([{"type": "file", "file": {"filename": "x.exe", "file_data": "aGVsbG8="}}])}, "kinds"),
        ({"messages": user([{"type": "text", "text": "."}] + [{"type": "image_url"}] * 9)}, "8 files"),
        ({"messages": user("hi"), "modalities": ["smell"]}, "Supported modalities: text, audio, image, video"),
        ({"messages": user("hi"), "n": 2}, "n"),
        ({"messages": user("hi"), "temperature": 9}, "temperature"),
        ({"messages": user("hi"), "stream": True, "modalities": ["audio"], "audio": {"format": "wav"}}, "pcm16"),
    ],
)
def test_what_is_not_taken_is_a_sentence_and_status_400(http, body, sentence):
    refused = http.post("/v1/chat/completions", json=body)
    assert refused.status_code == 400
    assert sentence in refused.json()["error"]["message"]


def test_a_model_or_a_route_that_is_not_there_is_404(client, http):
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
        client.chat.completions.create(model="gpt", messages=user("hello"))
    assert http.get("/v1/nothing").status_code == 404


def test_a_failure_before_the_first_word_is_a_status_and_after_it_an_error_in_the_stream(client):
    with pytest.raises(openai.InternalServerError, match="Something went wrong in this server"):
        client.chat.completions.create(model="Fake", messages=user("break"), stream=True)
    with pytest.raises(openai.APIError, match="out of memory"):
        for chunk in client.chat.completions.create(model="Fake", messages=user("fail"), stream=True):
            assert chunk.choices[0].delta.content in ("", "I was about to ")


def test_a_body_that_is_too_large_is_refused_however_it_comes(http):
    body = b'{"messages": [{"role": "user", "content": "' + b"x" * 3 * 2**20 + b'"}]}'
    kind = {"Content-Type": "application/json"}
    told = http.post("/v1/chat/completions", content=body, headers=kind)
    untold = http.post("/v1/chat/completions", content=iter([body]), headers=kind)
    assert (told.status_code, untold.status_code) == (413, 413)


def test_only_so_many_come_in_at_once(keys: Keys):
    with serving(Starlette(routes=routes(FakeEngine(), keys, "", 1, at_once=1))) as address:
        body = {"messages": user("slow"), "stream": True}
        with httpx.stream("POST", f"{address}/v1/chat/completions", json=body) as first:
            lines = first.iter_lines()
            next(lines)
            refused = httpx.get(f"{address}/v1/models")
        assert refused.status_code == 429 and refused.headers["Retry-After"] == "5"


def test_pages_of_other_sites_are_turned_away(http, address):
    assert http.get("/v1/models", headers={"Origin": "https://evil.example"}).status_code == 403
    assert http.get("/v1/models", headers={"Origin": address}).status_code == 200


def test_who_leaves_ends_the_reply(http, engine):
    closed = engine.closed
    with http.stream("POST", "/v1/chat/completions", json={"messages": user("slow"), "stream": True}) as stream:
        next(stream.iter_lines())
    until(lambda: engine.closed == closed + 1)
    with pytest.raises(httpx.ReadTimeout):  # before anything was sent
        http.post("/v1/chat/completions", json={"messages": user("slow")}, timeout=0.5)
    until(lambda: engine.closed == closed + 2)


def test_replies_wait_in_one_line_and_one_too_many_is_turned_away(http, engine, turns):
    body = {"messages": user("hello"), "stream": True, "stream_options": {"include_progress": True}}
    done: list[str] = []

    def ask() -> None:
        done.append(http.post("/v1/chat/completions", json=body).text)

    with http.stream("POST", "/v1/chat/completions", json={**body, "messages": user("slow")}) as first:
        lines = first.iter_lines()
        next(lines)
        waiting = [threading.Thread(target=ask) for _ in range(2)]
        for thread in waiting:
            thread.start()
        until(lambda: turns.waiting == 2)
        refused = http.post("/v1/chat/completions", json=body)
        assert engine.running == 1
    assert refused.status_code == 429 and refused.headers["Retry-After"]
    for thread in waiting:
        thread.join(30)
    assert len(done) == 2
    assert all("Waiting for the model" in text and "You " in text for text in done)


def test_pictures_are_drawn_from_a_prompt(client, http):
    drawn = client.images.generate(model="Fake", prompt="please", n=2, output_format="webp")
    assert drawn.size == "64x64" and len(drawn.data) == 2
    assert Image.open(io.BytesIO(base64.b64decode(drawn.data[0].b64_json))).format == "WEBP"
    refused = http.post("/v1/images/generations", json={"prompt": "please", "size": "1024x1024"})
    assert refused.status_code == 400 and "leave the size out" in refused.json()["error"]["message"]


def test_a_text_is_spoken(client):
    whole = client.audio.speech.create(model="Fake", input="good morning", voice="alto", response_format="wav")
    samples, rate = soundfile.read(io.BytesIO(whole.content))
    assert (len(samples), rate) == (32_000, 16_000)
    with client.audio.speech.with_streaming_response.create(
        model="Fake", input="good morning", voice="alto", response_format="pcm"
    ) as stream:
        pieces = list(stream.iter_bytes())
    assert len(pieces) > 5
    assert sum(map(len, pieces)) == 2 * 48_000


def test_a_clip_is_made_in_the_background_and_fetched(http, tmp_path):
    job = http.post("/v1/videos", files={"prompt": (None, "please"), "model": (None, "Fake")}).json()
    assert job["status"] == "queued" and job["object"] == "video"
    assert http.get(f"/v1/videos/{job['id']}/content").status_code == 404
    until(lambda: http.get(f"/v1/videos/{job['id']}").json()["status"] == "completed")
    (tmp_path / "clip").write_bytes(http.get(f"/v1/videos/{job['id']}/content").content)
    clip = media.take(tmp_path / "clip", tmp_path)
    assert (clip.seconds, clip.fps, clip.has_sound) == (1.0, 8.0, True)
    assert http.get("/v1/videos").json()["data"][0]["size"] == "256x256"
    assert http.delete(f"/v1/videos/{job['id']}").json()["deleted"]
    assert http.get(f"/v1/videos/{job['id']}").status_code == 404


def test_a_clip_may_start_from_a_picture_and_its_failure_stands_in_the_job(http, samples):
    files = {"prompt": (None, "fail"), "input_reference": ("x.png", (samples / "blue.png").read_bytes())}
    job = http.post("/v1/videos", files=files).json()
    until(lambda: (told := http.get(f"/v1/videos/{job['id']}").json())["status"] == "failed" and told)
    told = http.get(f"/v1/videos/{job['id']}").json()
    assert "out of memory" in told["error"]["message"]
    assert http.get(f"/v1/videos/{job['id']}/content").status_code == 400
    assert http.post("/v1/videos", json={"prompt": ""}).status_code == 400


def test_a_clip_that_is_deleted_is_no_longer_made(http, engine):
    closed = engine.closed
    job = http.post("/v1/videos", json={"prompt": "slow"}).json()
    until(lambda: engine.running == 1)
    http.delete(f"/v1/videos/{job['id']}")
    until(lambda: engine.closed == closed + 1)


def test_what_a_model_cannot_do_is_404(keys: Keys):
    class Mute(FakeEngine):
        capabilities = FakeEngine.capabilities.__class__(
            **{**vars(FakeEngine.capabilities), "outputs": frozenset({"text"})}
        )

    with serving(Starlette(routes=routes(Mute(), keys, "", upload_mb=1))) as address:
        for path, body in (
            ("images/generations", {"prompt": "x"}),
            ("audio/speech", {"input": "x"}),
            ("videos", {"prompt": "x"}),
        ):
            told = httpx.post(f"{address}/v1/{path}", json=body)
            assert told.status_code == 404 and "Fake makes no" in told.json()["error"]["message"]


def test_nothing_of_a_request_stays_on_the_disk(http, samples, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    content = [{"type": "image_url", "image_url": {"url": inline(samples / "blue.png", "image/png")}}]
    started = time.monotonic()
    for stream in (False, True):
        assert http.post("/v1/chat/completions", json={"messages": user(content), "stream": stream}).status_code == 200
    until(lambda: list(tmp_path.iterdir()) == [])
    assert time.monotonic() - started < 30


def test_what_programs_fetch_is_marked_and_signed(client, keys: Keys, tmp_path: Path):
    drawn = client.images.generate(model="Fake", prompt="please", output_format="png")
    said = client.audio.speech.create(model="Fake", input="good morning", voice="alto", response_format="wav")
    for name, content in (("a.png", base64.b64decode(drawn.data[0].b64_json)), ("a.wav", said.read())):
        (tmp_path / name).write_bytes(content)
        assert check(tmp_path / name, keys).verdict == "ours", name


def test_credentials_of_a_file_in_a_request_are_carried_on(http, keys: Keys, tmp_path: Path):
    theirs = media.write_image(np.full((64, 64, 3), 30, np.uint8), tmp_path)
    sign(
        theirs.path,
        Claim("Their model", datetime.now(UTC), marked=False),
        open_keys(tmp_path / "other", environment={}),
    )
    content = [{"type": "image_url", "image_url": {"url": inline(theirs.path, "image/png")}},
               {"type": "text", "text": "draw"}]  # fmt: skip
    body = {"messages": user(content), "modalities": ["image"]}
    (part,) = http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    made = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
    (tmp_path / "made.png").write_bytes(made)
    with (tmp_path / "made.png").open("rb") as file:
        (told,) = read(file, keys)[0].ingredients
    assert told.startswith("edited from a file signed by Omni Playground ")
