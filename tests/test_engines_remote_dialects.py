"""How vLLM-Omni, DashScope and plain servers answer, by their published protocols, and what they are sent."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import sys
import types
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from loopback import QUICK, Exchange, delta, scripted, until
from media_files import photo, tone
from PIL import Image as Pillow
from processes import REPOSITORY

from omni import media
from omni.conversation import Conversation, Message, Part, Text
from omni.engine import Wish
from omni.engines.remote.chunks import Chunk, Samples, Sound
from omni.engines.remote.dialects import DIALECTS, VllmOmni
from omni.engines.remote.engine import RemoteEngine
from omni.errors import OmniError
from omni.events import ClipReady, ImageReady, Progress, SpeechChunk, TextDelta

PROTOCOL = REPOSITORY / "build" / "servers" / "vllm_omni" / "entrypoints" / "openai" / "protocol"
RATE = 24_000


def asked(folder: Path, *parts: Part | str) -> Conversation:
    return Conversation(folder, (Message("user", tuple(Text(p) if isinstance(p, str) else p for p in parts)),))


def of(kind: type, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def said(events) -> str:
    return "".join(event.text for event in of(TextDelta, events))


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def riff(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32768).astype("<i2").tobytes()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def vllm(modalities: str = "audio, text", chat: Callable[[Exchange], None] = lambda e: None, **routes):
    """A script as vLLM-Omni answers: unknown modalities are refused with the list of those that the model has."""

    def script(exchange: Exchange) -> None:
        name = exchange.path.removeprefix("/v1/").partition("/")[0] if "videos" in exchange.path else ""
        if exchange.path == "/v1/audio/voices":
            voices = routes.get("voices")
            exchange.json(
                {"voices": voices, "uploaded_voices": []} if voices else {"error": {}}, 200 if voices else 404
            )
        elif name in routes or exchange.path in routes:
            routes.get(name, routes.get(exchange.path))(exchange)
        elif "smell" in exchange.body.get("modalities", ()):
            words = f"Unsupported output modalities smell for this model. Supported modalities: {modalities}"
            exchange.json({"error": {"message": words, "type": "BadRequestError", "code": 400}}, 400)
        else:
            exchange.head()
            chat(exchange)
            exchange.sse(b"[DONE]")
            exchange.end()

    return script


def vllm_chunk(modality: str, content=None, finish: str | None = None, **more) -> dict:
    """A chunk as vLLM-Omni's OmniChatCompletionStreamResponse serialises."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": finish, **more}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "q", "choices": [choice],
            "modality": modality}  # fmt: skip


def interleaved(exchange: Exchange) -> None:
    about = {"audio_metadata": {"format": "pcm16", "sample_rate_hz": RATE, "frame_count": 2400, "channels": 1}}
    exchange.sse(vllm_chunk("text", ""), vllm_chunk("text", "Good "))
    exchange.sse(vllm_chunk("audio", b64(pcm(np.full(2400, 0.25))), **about))
    exchange.sse(vllm_chunk("text", "morning."), vllm_chunk("audio", b64(pcm(np.full(2400, 0.5))), "stop", **about))
    usage = {"prompt_tokens": 20, "completion_tokens": 9, "prompt_tokens_details": {"audio_tokens": 13}}
    exchange.sse({"choices": [], "usage": usage, "modality": "text"})


def test_vllm_omni_tells_what_its_model_can_do_without_working():
    with scripted(vllm("audio, text", voices=["ethan", "chelsie"])) as server:
        engine = RemoteEngine.open("vllm", server.address, patience=QUICK)
    assert engine.capabilities.outputs == {"text", "speech"}
    assert engine.capabilities.voices == ("ethan", "chelsie")
    assert server.chats()[0].body["max_tokens"] == 1


def test_speech_of_vllm_omni_is_told_from_words_by_its_modality(tmp_path):
    clip = media.write_video(np.zeros((4, 16, 16, 3), np.uint8), 4, tone(1.0), 16_000, tmp_path)
    with scripted(vllm(chat=interleaved, voices=["ethan"])) as server:
        engine = RemoteEngine.open("vllm", server.address, patience=QUICK)
        events = list(
            engine.reply(asked(tmp_path, clip, "hello"), Wish(frozenset({"text", "speech"}), "ethan", seed=5))
        )
    assert said(events) == "Good morning."
    assert [(one.start, one.rate, float(one.samples[0])) for one in of(SpeechChunk, events)] == [
        (0, RATE, 0.25),
        (2400, RATE, 0.5),
    ]
    assert events[-1].usage.tokens_in == {"text": 7, "audio": 13}
    body = server.chats()[-1].body
    assert (body["voice"], body["audio"]["voice"], body["audio"]["format"]) == ("ethan", "ethan", "pcm16")
    assert (body["modalities"], body["seed"]) == (["text", "audio"], 5)
    assert body["mm_processor_kwargs"] == {"use_audio_in_video": True}
    assert body["messages"][0]["content"][0]["video_url"]["url"].startswith("data:video/mp4;base64,")


def test_chunks_that_are_whole_wav_files_join_without_their_heads():
    samples = Samples()
    taken = [samples.take(Sound(riff(np.full(2400, level)), RATE)) for level in (0.25, 0.5)]
    assert [len(one) for one in taken] == [2400, 2400]
    assert float(taken[0].max()) == 0.25 and float(taken[1].min()) == 0.5


def test_a_picture_in_the_chat_of_vllm_omni_is_decoded(tmp_path):
    pixels = photo(64, 48)
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(png(pixels))}"}}
    script = vllm("image, text", lambda e: e.sse(vllm_chunk("text", "Here."), vllm_chunk("image", [part], "stop")))
    with scripted(script) as server:
        engine = RemoteEngine.open("vllm", server.address, patience=QUICK)
        events = list(engine.reply(asked(tmp_path, "draw"), Wish(frozenset({"text", "image"}))))
    assert engine.capabilities.outputs == {"text", "image"}
    assert np.array_equal(of(ImageReady, events)[0].pixels, pixels)
    assert server.chats()[-1].body["modalities"] == ["text", "image"]


def test_a_text_model_with_voices_reads_its_reply_aloud(tmp_path):
    def speech(exchange: Exchange) -> None:
        exchange.head(kind="audio/pcm")
        for level in (0.25, 0.5):
            exchange.send(pcm(np.full(1200, level)))
        exchange.end()

    routes = {"/v1/audio/speech": speech, "voices": ["vivian"]}
    with scripted(vllm("text", lambda e: e.sse(vllm_chunk("text", "Hello.", "stop")), **routes)) as server:
        engine = RemoteEngine.open("vllm", server.address, patience=QUICK)
        events = list(engine.reply(asked(tmp_path, "hi"), Wish(frozenset({"speech"}))))
    assert said(events) == ""
    assert sum(len(one.samples) for one in of(SpeechChunk, events)) == 2400
    body = next(one.body for one in server.asked if one.path == "/v1/audio/speech")
    assert (body["input"], body["voice"], body["response_format"]) == ("Hello.", "vivian", "pcm")
    check_with_vllm("audio", "OpenAICreateSpeechRequest", body)


def clip_jobs(folder: Path, states: list[dict]) -> Callable[[Exchange], None]:
    made = media.write_video(np.zeros((8, 256, 256, 3), np.uint8), 8, tone(1.0), 16_000, folder)

    def script(exchange: Exchange) -> None:
        if exchange.path.endswith("/content"):
            exchange.head(kind="video/mp4")
            exchange.send(made.path.read_bytes())
            exchange.end()
        else:
            state = states.pop(0) if len(states) > 1 else states[0]
            exchange.json({"id": "video_gen_1", "object": "video", **state})

    return script


def test_a_clip_is_asked_for_looked_after_and_fetched(tmp_path):
    states = [{"status": "queued"}, {"status": "in_progress", "progress": 40}, {"status": "completed", "progress": 100}]
    with scripted(vllm("video", videos=clip_jobs(tmp_path, states))) as server:
        engine = RemoteEngine.open("vllm", server.address, patience=QUICK)
        assert engine.capabilities.outputs == {"video"}
        events = list(engine.reply(asked(tmp_path, "a ball"), Wish(frozenset({"video"}), seed=4)))
    (clip,) = of(ClipReady, events)
    assert (clip.frames.shape, clip.fps, len(clip.samples) / clip.rate) == ((8, 256, 256, 3), 8.0, pytest.approx(1.0))
    assert any(event.done == 0.4 for event in of(Progress, events))
    form = next(one for one in server.asked if one.method == "POST" and one.path == "/v1/videos")
    assert b'name="prompt"\r\n\r\na ball' in form.raw and b'name="seed"\r\n\r\n4' in form.raw
    assert not [one for one in server.asked if one.method == "DELETE"]
    check_with_vllm("videos", "VideoGenerationRequest", {"prompt": "a ball", "model": "tiny/Omni", "seed": "4"})


def test_a_clip_that_is_stopped_is_cancelled_on_the_server(tmp_path):
    with scripted(vllm("video", videos=clip_jobs(tmp_path, [{"status": "in_progress"}]))) as server:
        engine = RemoteEngine.open("vllm", server.address, patience=QUICK)
        with closing(engine.reply(asked(tmp_path, "a ball"), Wish(frozenset({"video"})))) as reply:
            next(event for event in reply if isinstance(event, Progress) and event.done is not None)
        until(lambda: [one for one in server.asked if (one.method, one.path) == ("DELETE", "/v1/videos/video_gen_1")])


def test_a_clip_that_fails_says_why(tmp_path):
    failed = {"status": "failed", "error": {"code": 500, "message": "out of memory"}}
    with scripted(vllm("video", videos=clip_jobs(tmp_path, [failed]))) as server:
        engine = RemoteEngine.open("vllm", server.address, patience=QUICK)
        with pytest.raises(OmniError, match="out of memory"):
            list(engine.reply(asked(tmp_path, "a ball"), Wish(frozenset({"video"}))))


def test_a_refused_output_is_remembered_and_what_was_not_wished_for_is_left_out(tmp_path):
    def script(exchange: Exchange) -> None:
        if "audio" in exchange.body["modalities"]:
            words = "Unsupported output modalities audio for this model. Supported modalities: text"
            exchange.json({"error": {"message": words}}, 400)
        else:
            exchange.head()
            exchange.sse(vllm_chunk("text", "words only", "stop"), b"[DONE]")
            exchange.end()

    sound = media.write_audio(tone(0.5), 16_000, tmp_path)
    with scripted(lambda e: script(e) if "chat" in e.path else e.json({}, 404)) as server:
        engine = RemoteEngine.open("vllm", server.address, patience=QUICK)
        engine.offer = VllmOmni().offer("tiny/Omni")  # as where the first question was not refused
        events = list(engine.reply(asked(tmp_path, sound), Wish()))
        assert said(events) == "words only"
        assert engine.capabilities.outputs == {"text"}
        with pytest.raises(OmniError, match="gives no speech; it answers with text"):
            list(engine.reply(asked(tmp_path, "hi"), Wish(frozenset({"speech"}))))


def test_a_refused_input_is_remembered(tmp_path):
    refusal = {"error": {"message": "At most 0 image(s) may be provided in one prompt."}}
    picture = media.write_image(photo(), tmp_path)
    with scripted(lambda e: e.json(refusal, 400)) as server:
        engine = RemoteEngine.open("dashscope", server.address, patience=QUICK)
        with pytest.raises(OmniError, match="turned out to take text and sounds and clips"):
            list(engine.reply(asked(tmp_path, picture), Wish(frozenset({"text"}))))
    assert "image" not in engine.capabilities.inputs


def dashscope(exchange: Exchange) -> None:
    """Bare samples under the name wav, padded base64 in every chunk, usage in a chunk without choices."""
    exchange.head()
    exchange.sse(delta("Good "), delta("morning."))
    for place in range(2):
        sound = {"audio": {"data": b64(pcm(np.full(1001, 0.25))), "expires_at": 1, "id": f"a{place}"}}
        exchange.sse({"choices": [{"index": 0, "delta": sound, "finish_reason": None}]})
    exchange.sse(
        delta(finish="stop"), {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 8}}, b"[DONE]"
    )
    exchange.end()


def test_dashscope_speaks_in_bare_samples(tmp_path):
    sound = media.write_audio(tone(0.5), 16_000, tmp_path)
    with scripted(dashscope, {"data": [{"id": "qwen3.5-omni-plus"}]}) as server:
        engine = RemoteEngine.open("dashscope", server.address, "sk-1", patience=QUICK)
        events = list(engine.reply(asked(tmp_path, sound, "answer"), Wish(max_tokens=77)))
    assert engine.capabilities.voices == ("Tina",)
    assert said(events) == "Good morning."
    assert sum(len(one.samples) for one in of(SpeechChunk, events)) == 2002
    assert events[-1].usage.tokens_out == {"text": 8}
    body = server.chats()[0].body
    assert body["audio"] == {"format": "wav", "voice": "Tina"} and body["max_tokens"] == 77
    assert body["messages"][0]["content"][0]["input_audio"]["data"].startswith("data:;base64,")


def test_words_of_older_models_of_dashscope_stand_beside_their_sound():
    chunk = Chunk.model_validate({"choices": [{"delta": {"audio": {"transcript": "Hello"}}}]})
    assert [piece.text for piece in DIALECTS["dashscope"]().pieces(chunk)] == ["Hello"]


def test_dashscope_takes_one_kind_of_file_a_message(tmp_path):
    picture, sound = media.write_image(photo(), tmp_path), media.write_audio(tone(0.5), 16_000, tmp_path)
    with scripted(dashscope, {"data": [{"id": "qwen3.8-omni-flash"}]}) as server:
        engine = RemoteEngine.open("dashscope", server.address, patience=QUICK)
        assert engine.capabilities.outputs == {"text"}
        with pytest.raises(OmniError, match="one kind of file a message"):
            list(engine.reply(asked(tmp_path, picture, sound), Wish()))
        earlier = Message("user", (picture, sound, Text("both")))
        thread = Conversation(
            tmp_path, (earlier, Message("assistant", (Text("ok"),)), *asked(tmp_path, "and?").messages)
        )
        list(engine.reply(thread, Wish()))
    first, reply, last = server.chats()[-1].body["messages"]
    assert [part["type"] for part in first["content"]] == ["image_url", "text", "text"]
    assert first["content"][1]["text"] == "(an earlier sound)"
    assert (reply["content"], last["content"]) == ("ok", "and?")


def test_a_file_that_is_too_large_for_a_server_is_refused_and_a_picture_goes_as_jpeg(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (1900, 1900, 3), dtype=np.uint8)
    picture, clip = media.write_image(noise, tmp_path), tmp_path / "clip.mp4"
    with scripted(dashscope, {"data": [{"id": "qwen3-omni-flash"}]}) as server:
        engine = RemoteEngine.open("dashscope", server.address, patience=QUICK)
        list(engine.reply(asked(tmp_path, picture), Wish()))
        part = server.chats()[-1].body["messages"][0]["content"][0]
        assert part["image_url"]["url"].startswith("data:image/jpeg;base64,")
        small = media.write_video(np.zeros((2, 16, 16, 3), np.uint8), 4, tone(0.1), 16_000, tmp_path)
        clip.write_bytes(bytes(9 * 2**20))
        with pytest.raises(OmniError, match="too large"):
            list(engine.reply(asked(tmp_path, type(small)(**{**vars(small), "path": clip})), Wish()))


def test_a_plain_server_draws_from_the_words_of_the_question(tmp_path):
    pixels = photo(64, 48)

    def script(exchange: Exchange) -> None:
        if exchange.path == "/v1/images/generations":
            drawn = {"created": 1, "data": [{"b64_json": b64(png(pixels))}]}
            exchange.json(
                drawn if exchange.method == "POST" else {"detail": "Method Not Allowed"},
                200 if exchange.method == "POST" else 405,
            )
        elif exchange.path == "/v1/chat/completions":
            exchange.head()
            exchange.sse(delta("Here."), delta(finish="stop"), b"[DONE]")
            exchange.end()
        else:
            exchange.json({"detail": "Not Found"}, 404)

    with scripted(script) as server:
        engine = RemoteEngine.open("openai", server.address, patience=QUICK)
        assert engine.capabilities.outputs == {"text", "image"}
        events = list(engine.reply(asked(tmp_path, "a red corner"), Wish(frozenset({"text", "image"}))))
        picture = media.write_image(pixels, tmp_path)
        with pytest.raises(OmniError, match="write what is to be made"):
            list(engine.reply(asked(tmp_path, picture), Wish(frozenset({"image"}))))
    assert said(events) == "Here."
    assert np.array_equal(of(ImageReady, events)[0].pixels, pixels)
    body = next(one.body for one in server.asked if one.path == "/v1/images/generations" and one.method == "POST")
    assert body["prompt"] == "a red corner"
    assert "modalities" not in server.chats()[-1].body and "audio" not in server.chats()[-1].body
    check_with_vllm("images", "ImageGenerationRequest", body)


def test_a_server_without_a_list_of_models_is_asked_for_the_one_that_was_named():
    with scripted(lambda e: e.json({}, 404), {"data": []}) as server:
        assert RemoteEngine.open("dashscope", server.address, model="qwen3-omni-flash").name == "qwen3-omni-flash"


@pytest.mark.skipif(not PROTOCOL.exists(), reason="vLLM-Omni's protocol is not here; `make servers` brings it")
def test_the_chunks_of_these_tests_hold_against_vllm_omnis_own_types():
    about = {"format": "pcm16", "sample_rate_hz": RATE, "frame_count": 2400, "channels": 1}
    check_with_vllm("audio", "AudioChunkMetadata", about)


def check_with_vllm(module: str, name: str, value: dict) -> None:
    """Hold a value against one of vLLM-Omni's own protocol classes, where ``make servers`` has brought them."""
    path = PROTOCOL / f"{module}.py"
    if path.exists():
        getattr(loaded(path), name).model_validate(json.loads(json.dumps(value)))


def loaded(path: Path) -> types.ModuleType:
    """A protocol file by itself: the two helpers that it imports of its package stand in for the package."""
    helpers = {
        "vllm_omni": {},
        "vllm_omni.entrypoints": {},
        "vllm_omni.entrypoints.openai": {},
        "vllm_omni.entrypoints.openai.image_api_utils": {"parse_size": str, "validate_layered_layers": str},
        "vllm_omni.inputs": {},
        "vllm_omni.inputs.data": {"DIFFUSION_QUALITY_LEVELS": ("lossless", "high")},
    }
    before = dict(sys.modules)
    try:
        for name, content in helpers.items():
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update(content)
        spec = importlib.util.spec_from_file_location(f"vllm_protocol_{path.stem}", path)
        sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        for name in set(sys.modules) - set(before):
            if name.startswith("vllm_omni"):
                del sys.modules[name]
