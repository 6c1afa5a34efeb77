"""``/v1/chat/completions``: a conversation in, a reply out, whole or as it comes."""

from __future__ import annotations

import json
import logging
import secrets
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from fastapi import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from omni.engine import Wish
from omni.errors import Refused
from omni.events import ClipReady, Event, Finished, ImageReady, Progress, SpeechChunk, TextDelta
from omni.provenance.imprint import Imprint
from omni.serving import faults
from omni.serving.intake import conversation_of
from omni.serving.leaving import Leaving, signed
from omni.serving.protocol import STREAMED_SOUND, ChatRequest
from omni.serving.speaking import events_of, unless_gone
from omni.serving.wire import Wire, counted, encoded, sound_file

log = logging.getLogger(__name__)

DONE = "data: [DONE]\n\n"
WHOLE_SOUND = ("wav", "mp3", "flac", "opus", "pcm16", "pcm")


async def complete(engine: Leaving, request: Request, asked: ChatRequest) -> Response:
    """Answer a request. Raises OmniError for what is refused before the model has said anything."""
    wish, kind = asked.wish(), asked.audio.format or ("pcm16" if asked.stream else "wav")
    if kind not in (STREAMED_SOUND if asked.stream else WHOLE_SOUND):
        raise Refused(f"Speech does not come as {kind!r} here; please ask for {'pcm16' if asked.stream else 'wav'}.")
    folder = tempfile.TemporaryDirectory(prefix="omni-")
    try:
        return await _answer(engine, request, asked, wish, kind, folder)
    except BaseException:
        folder.cleanup()
        raise


async def _answer(
    engine: Leaving,
    request: Request,
    asked: ChatRequest,
    wish: Wish,
    kind: str,
    folder: tempfile.TemporaryDirectory,
) -> Response:
    reading = anyio.to_thread.run_sync(conversation_of, asked.messages, engine, Path(folder.name), engine.keys)
    conversation = await unless_gone(request, reading)
    events, imprint = events_of(lambda: engine.reply(conversation, wish)), engine.imprint(conversation)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": engine.name}
    if not asked.stream:
        async with aclosing(events):
            heard = await unless_gone(request, _all(events))
        with folder:
            return JSONResponse(await anyio.to_thread.run_sync(whole, heard, head, kind, imprint))
    first = await unless_gone(request, _opening(events, asked.stream_options.include_progress))
    sent = chunks(asked, head, first, events, folder, imprint)
    return StreamingResponse(sent, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _all(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def _opening(events: AsyncIterator[Event], progress: bool) -> list[Event]:
    """The events up to the first that is sent, so that a fault before it is a status and no broken stream."""
    opening: list[Event] = []
    async for event in events:
        opening.append(event)
        if progress or not isinstance(event, Progress):
            break
    return opening


async def chunks(
    asked: ChatRequest,
    head: dict[str, Any],
    opening: list[Event],
    events: AsyncGenerator[Event],
    folder: tempfile.TemporaryDirectory,
    imprint: Imprint,
) -> AsyncIterator[str]:
    """The server-sent events of a reply; a fault on the way is one of them, the last but one."""
    options, name = asked.stream_options, head["id"].replace("chatcmpl", "audio")
    wire = Wire(imprint, asked.audio.sample_rate, options.include_progress, name)
    with folder:
        async with aclosing(events):
            try:
                yield chunk(head, {"delta": {"role": "assistant", "content": ""}})
                for event in opening:
                    for piece in wire.pieces(event):
                        yield chunk(head, piece, options.include_usage)
                async for event in events:
                    if isinstance(event, (ImageReady, ClipReady)):  # the encoding of a file takes a while
                        pieces = await anyio.to_thread.run_sync(list, wire.pieces(event))
                    else:
                        pieces = wire.pieces(event)
                    for piece in pieces:
                        yield chunk(head, piece, options.include_usage)
            except Exception as error:
                yield f"data: {json.dumps(faults.body(error))}\n\n"
            yield DONE


def chunk(head: dict[str, Any], piece: dict[str, Any], usage: bool = False) -> str:
    """A piece as one server-sent event; usage, in a chunk without choices, only for who asked for it."""
    if "error" in piece:
        return f"data: {json.dumps(piece)}\n\n"
    rest = dict(piece)
    if "usage" in rest:
        if not usage:
            return ""
        choices = []
    else:
        choice = {"index": 0, "delta": rest.pop("delta", {}), "finish_reason": rest.pop("finish_reason", None)}
        choices = [choice | ({"audio_metadata": rest.pop("audio_metadata")} if "audio_metadata" in rest else {})]
    return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': choices, **rest})}\n\n"


def whole(events: list[Event], head: dict[str, Any], kind: str, imprint: Imprint) -> dict[str, Any]:
    """A complete reply as OpenAI's ``chat.completion``; its content is a list where there are pictures or clips."""
    finished = events[-1]
    assert isinstance(finished, Finished)
    if finished.reason == "cut":
        raise faults.Broken(finished.why)
    wire = Wire(imprint, None, False, "")
    words = "".join(event.text for event in events if isinstance(event, TextDelta))
    parts = [piece["delta"]["content"][0] for event in events if isinstance(event, (ImageReady, ClipReady))
             for piece in wire.pieces(event)]  # fmt: skip
    message: dict[str, Any] = {"role": "assistant", "content": words or None}
    if parts:
        message["content"] = [*([{"type": "text", "text": words}] if words else []), *parts]
    spoken = [event for event in events if isinstance(event, SpeechChunk)]
    if spoken:
        samples, rate = np.concatenate([one.samples for one in spoken]), spoken[0].rate
        sound = encoded(signed(sound_file(samples, rate, kind), kind, imprint))
        name = head["id"].replace("chatcmpl", "audio")
        message["audio"] = {"id": name, "data": sound, "expires_at": head["created"], "transcript": words}
    choice = {"index": 0, "message": message, "finish_reason": "length" if finished.reason == "length" else "stop"}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": counted(finished.usage)}
