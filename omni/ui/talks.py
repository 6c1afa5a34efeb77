"""The line between a live tab and its conversation: one WebSocket, for sound and pictures both ways.

From the page: JSON commands, and binary messages whose first byte says what follows: 1 a frame of the microphone
(uint32 place of the player, then 512 samples), 2 a frame of the camera (a picture file). To the page: JSON, and binary
speech (uint32 turn, rate, first sample, then samples). Numbers are little-endian, samples 16-bit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from omni.engine import Engine
from omni.provenance.keys import Keys
from omni.ui.camera import PICTURES
from omni.ui.listening import FRAME, FRAME_SECONDS, PAUSE, PAUSES
from omni.ui.pacing import OneAtATime
from omni.ui.talk import Speech, Talk

log = logging.getLogger(__name__)

ADDRESS = "/omni-live"
SOUND, PICTURE = 1, 2
SILENT = 2**32 - 1  # the place of a player that plays nothing
COMMAND_CHARACTERS = 2_000
AHEAD = 5.0  # seconds that a microphone may be in front of the clock: a line that hung sends late what it kept
PICTURES_APART = 0.5  # seconds
AT_ONCE = 8  # conversations that listen at the same time
RETURN = 20.0  # seconds in which a page whose line broke finds its conversation again
LOCAL = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}
CROWDED = "Too many people are talking at the moment; please try again in a few minutes."


class Misused(Exception):
    """A message that our own page does not send."""


class Talks:
    """All live conversations. State: their lines by the name that the page knows, and those that are being ended."""

    def __init__(self, engine: Engine, model: OneAtATime, root: Path, keys: Keys, minutes: int):
        self.engine, self.model, self.root, self.keys, self.seconds = engine, model, root, keys, minutes * 60
        self.route = WebSocketRoute(ADDRESS, self.serve)
        self.all: dict[str, Line] = {}
        self.leaving: set[asyncio.Task] = set()

    async def serve(self, socket: WebSocket) -> None:
        """One page, from its coming to its going."""
        if is_foreign(socket):
            await socket.close(1008)
            return
        await socket.accept()
        line, clean = None, False
        try:
            line = self.enter(json.loads(await socket.receive_text()))
            await line.carry(socket)
        except WebSocketDisconnect as gone:
            clean = gone.code in (1000, 1001)
        except (Misused, ValueError, KeyError, TypeError, struct.error) as cause:
            log.warning("a live line was closed: %r", cause)
            clean = True
            with suppress(RuntimeError):
                await socket.close(1003)
        finally:
            if line is not None:
                self.lost(line, 0.0 if clean else RETURN)

    def enter(self, hello: dict[str, Any]) -> Line:
        """The conversation of a page that says who it was, or a new one."""
        line = self.all.get(str(hello.get("name")))
        if line is None or line.carried:
            line = Line(self)
            self.all[line.name] = line
        line.carried = True
        line.outbox = asyncio.Queue()
        line.tell({"kind": "welcome", "name": line.name, "anew": hello.get("name") not in (None, line.name)})
        return line

    def lost(self, line: Line, wait: float) -> None:
        """A page is gone: end its reply now, and forget it unless it comes back within ``wait`` seconds."""
        line.carried, line.lost = False, line.lost + 1
        line.talk.stop()
        task = asyncio.create_task(self._forget(line, line.lost, wait))
        self.leaving.add(task)
        task.add_done_callback(self.leaving.discard)

    async def _forget(self, line: Line, lost: int, wait: float) -> None:
        await asyncio.sleep(wait)
        if not line.carried and line.lost == lost and self.all.pop(line.name, None):
            await line.talk.leave()


class Line:
    """One page's line. State: its conversation, what is on its way to the page, how much came from it."""

    def __init__(self, talks: Talks):
        self.talks, self.name = talks, secrets.token_urlsafe(16)
        self.outbox: asyncio.Queue[dict | Speech] = asyncio.Queue()
        self.carried, self.lost = False, 0
        self.talk = Talk(talks.engine, talks.model, talks.root, talks.keys, self.tell)
        self.since, self.frames, self.looked = 0.0, 0, 0.0

    def tell(self, message: dict[str, Any] | Speech) -> None:
        """Send to the page as soon as it can be."""
        if self.carried:
            self.outbox.put_nowait(message)

    async def carry(self, socket: WebSocket) -> None:
        """Carry messages both ways until the page goes. Raises WebSocketDisconnect, or Misused and its like."""
        sending = asyncio.create_task(self._send(socket))
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message.get("code", 1006))
                if message.get("bytes") is not None:
                    self._media(message["bytes"])
                else:
                    self._command(message["text"])
        finally:
            sending.cancel()

    async def _send(self, socket: WebSocket) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # the page went meanwhile; ``receive`` says so too
            while True:
                message = await self.outbox.get()
                if isinstance(message, Speech):
                    await socket.send_bytes(packed(message))
                else:
                    await socket.send_text(json.dumps(message))

    def _media(self, message: bytes) -> None:
        now = time.monotonic()
        if not message:
            raise Misused("an empty message")
        if message[0] == SOUND and len(message) == 5 + 2 * FRAME:
            self.frames += 1
            if self.frames * FRAME_SECONDS > now - self.since + AHEAD:
                raise Misused("sound came faster than time passes")
            (place,) = struct.unpack_from("<I", message, 1)
            self.talk.hear(message[5:], None if place == SILENT else place)
        elif message[0] == PICTURE and len(message) <= PICTURES.upload_bytes:
            if now >= self.looked + PICTURES_APART:
                self.looked = now
                self.talk.see(message[1:])
        else:
            raise Misused(f"a message of kind {message[0]} and {len(message)} bytes")

    def _command(self, text: str) -> None:
        if len(text) > COMMAND_CHARACTERS:
            raise Misused(f"a command of {len(text)} characters")
        command = json.loads(text)
        match command["kind"]:
            case "start":
                self._start(command)
            case "choose":
                self._choose(command)
            case "stop":
                self.talk.stop()
            case "press":
                self.talk.press()
            case "release":
                self.talk.release()
            case "interrupt":
                self.talk.interrupt()
            case "clear":
                self.talk.clear()
            case unknown:
                raise Misused(f"a command {unknown!r}")

    def _start(self, command: dict[str, Any]) -> None:
        if sum(line.talk.running for line in self.talks.all.values() if line is not self) >= AT_ONCE:
            self.tell({"kind": "over", "sentence": CROWDED})
            return
        self.since, self.frames = time.monotonic(), 0
        self._choose(command)
        self.talk.start(self.talks.seconds)
        self.tell({"kind": "started", "seconds": self.talks.seconds})

    def _choose(self, command: dict[str, Any]) -> None:
        shortest, longest = PAUSES
        self.talk.choose(min(max(float(command.get("pause", PAUSE)), shortest), longest), command.get("voice"))


def packed(speech: Speech) -> bytes:
    """Speech as it travels."""
    samples = (np.clip(speech.chunk.samples, -1.0, 1.0) * 32767).astype("<i2")
    return struct.pack("<III", speech.turn, speech.chunk.rate, speech.chunk.start) + samples.tobytes()


def is_foreign(socket: WebSocket) -> bool:
    """Whether a page from elsewhere calls a server that runs on the visitor's own machine."""
    origin, host = socket.headers.get("origin"), urlsplit(f"//{socket.headers.get('host', '')}").hostname
    return bool(origin) and host in LOCAL and urlsplit(origin).hostname not in LOCAL
