"""``/v1/images/generations`` and ``/v1/audio/speech``: a prompt in, a picture or a spoken text out."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import anyio
import numpy as np
from fastapi import Request
from PIL import Image as Pillow
from starlette.responses import JSONResponse, Response, StreamingResponse

from omni import media
from omni.engine import Engine, Modality, Wish
from omni.errors import OmniError
from omni.events import Event, ImageReady, SpeechChunk
from omni.serving import faults
from omni.serving.intake import asked as conversation
from omni.serving.leaving import Leaving, signed
from omni.serving.protocol import SPEECH_RATE, ImageRequest, SpeechRequest, check_size
from omni.serving.speaking import events_of, unless_gone
from omni.serving.wire import encoded, pcm16, sound_file

NAMES: dict[Modality, str] = {"image": "pictures", "speech": "speech", "video": "clips"}
TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg", "flac": "audio/flac", "wav": "audio/wav", "pcm": "audio/pcm"}
SAY = "say {}"  # the model is asked, as a person would ask it; nothing holds it to the very words


def check_able(engine: Engine, output: Modality) -> None:
    """Raise Unknown where the model does not make this."""
    if output not in engine.capabilities.outputs:
        raise faults.Unknown(f"{engine.name} makes no {NAMES[output]}.")


async def draw(engine: Leaving, request: Request, asked: ImageRequest) -> Response:
    """Pictures of a prompt, one reply each, with seeds that count up."""
    check_able(engine, "image")
    check_size(asked.size)
    made = []
    for place in range(asked.n):
        seed = None if asked.seed is None else asked.seed + place
        events = await _reply(engine, request, asked.prompt, Wish(frozenset({"image"}), seed=seed))
        ready = [event for event in events if isinstance(event, ImageReady)]
        if not ready:
            raise OmniError("The model made no picture of this; please ask differently.")
        made.append(ready[0])
    height, width, _ = made[0].pixels.shape
    kind = asked.output_format
    plain = await anyio.to_thread.run_sync(lambda: [picture_file(one.pixels, kind) for one in made])
    files = await anyio.to_thread.run_sync(_signed, engine, asked.prompt, kind, *plain)
    data = [{"b64_json": encoded(content), "revised_prompt": None} for content in files]
    rest = {"output_format": kind, "size": f"{width}x{height}"}
    return JSONResponse({"created": int(time.time()), "data": data, **rest})


async def say(engine: Leaving, request: Request, asked: SpeechRequest) -> Response:
    """A text as speech; bare samples come as they are spoken, files when they are complete."""
    check_able(engine, "speech")
    prompt, wish = SAY.format(asked.input), Wish(frozenset({"speech"}), asked.voice_name, seed=asked.seed)
    if asked.response_format == "pcm":
        events = _events(engine, prompt, wish)
        first = await unless_gone(request, anext(spoken := _chunks(events), None))
        if first is None:
            raise OmniError("The model said nothing to this; please ask differently.")
        return StreamingResponse(_samples(first, spoken), media_type=TYPES["pcm"])
    events = await _reply(engine, request, prompt, wish)
    chunks = [event for event in events if isinstance(event, SpeechChunk)]
    if not chunks:
        raise OmniError("The model said nothing to this; please ask differently.")
    samples, rate = np.concatenate([chunk.samples for chunk in chunks]), chunks[0].rate
    plain = await anyio.to_thread.run_sync(sound_file, samples, rate, asked.response_format)
    [content] = await anyio.to_thread.run_sync(_signed, engine, prompt, asked.response_format, plain)
    return Response(content, media_type=TYPES[asked.response_format])


def _signed(engine: Leaving, prompt: str, kind: str, *files: bytes) -> list[bytes]:
    """What was made of a prompt, as it leaves."""
    with tempfile.TemporaryDirectory(prefix="omni-") as name:
        imprint = engine.imprint(conversation(prompt, Path(name)))
        return [signed(content, kind, imprint) for content in files]


def picture_file(pixels: np.ndarray, kind: str) -> bytes:
    """(H, W, 3) uint8 as a PNG, JPEG or WebP."""
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, kind.upper())
    return buffer.getvalue()


async def _reply(engine: Engine, request: Request, prompt: str, wish: Wish) -> list[Event]:
    async def collect() -> list[Event]:
        async with aclosing(_events(engine, prompt, wish)) as events:
            return [event async for event in events]

    return await unless_gone(request, collect())


async def _events(engine: Engine, prompt: str, wish: Wish) -> AsyncGenerator[Event]:
    with tempfile.TemporaryDirectory(prefix="omni-") as name:
        asked = conversation(prompt, Path(name))
        async with aclosing(events_of(lambda: engine.reply(asked, wish))) as events:
            async for event in events:
                yield event


async def _chunks(events: AsyncGenerator[Event]) -> AsyncGenerator[SpeechChunk]:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, SpeechChunk):
                yield event


async def _samples(first: SpeechChunk, rest: AsyncGenerator[SpeechChunk]) -> AsyncIterator[bytes]:
    resampler = media.Resampler(first.rate, SPEECH_RATE)
    yield pcm16(resampler.push(first.samples))
    async with aclosing(rest):
        async for chunk in rest:
            yield pcm16(resampler.push(chunk.samples))
    yield pcm16(resampler.finish())
