"""One reply being received: a chat, a text read aloud, a picture, a clip; each a stream of events."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from omni import media
from omni.conversation import Image, Video
from omni.engines.remote import faults
from omni.engines.remote.chunks import (
    RATE,
    Ended,
    Extras,
    File,
    OwnUsage,
    Piece,
    Samples,
    Sound,
    Tokens,
    Words,
    read_chunk,
    unpacked,
)
from omni.engines.remote.dialects import OpenAI, Turn
from omni.engines.remote.line import BEAT, Line, Opened
from omni.engines.remote.sse import Events
from omni.engines.tally import Tally
from omni.errors import OmniError, Refused
from omni.events import (
    ClipPreview,
    ClipReady,
    Event,
    Heard,
    ImagePreview,
    ImageReady,
    Progress,
    SpeechChunk,
    TextDelta,
    Usage,
)

STREAM = "text/event-stream"
DONE = b"[DONE]"
POLL = 0.5  # seconds between two looks at a clip that is being made
CLIP_RATE = 48_000  # samples a second of a clip's sound
TAKEN = media.Limits(picture_side=2048, clip_seconds=12, clip_side=960, clip_fps=24)  # of what a server makes


class Job(BaseModel):
    """A clip on the server."""

    id: str
    status: str = "queued"
    progress: float = 0
    error: Any = None


class Pictures(BaseModel):
    class One(BaseModel):
        b64_json: str

    data: list[One]


class Replying:
    """State: the tally, the speech so far, the words so far, what is going on, whether anything was said."""

    def __init__(self, line: Line, dialect: OpenAI, model: str, shows_text: bool):
        self.line, self.dialect, self.model, self.shows_text = line, dialect, model, shows_text
        self.tally = Tally()
        self.words = ""
        self.said = False
        self.reason = ""  # the server's, when it has ended
        self._doing = "Waiting for the server"
        self._samples = Samples()
        self._spoken = 0  # samples
        self._own: OwnUsage | None = None

    def usage(self) -> Usage:
        """What the reply took; memory and experts are the server's, where it tells them."""
        own = self._own or OwnUsage()
        return replace(
            self.tally.usage(),
            experts_used=own.experts_used,
            experts_fetched=own.experts_fetched,
            bytes_fetched=own.bytes_fetched,
            peak_memory_mb=own.peak_memory_mb,
        )

    def chat(self, turn: Turn) -> Iterator[Event]:
        """A reply in the chat. Raises RemoteFault."""
        events, complete = Events(), False
        with closing(self.line.stream("POST", "/chat/completions", json=self.dialect.body(turn))) as stream:
            for item in stream:
                match item:
                    case None if complete:
                        return
                    case Opened(kind) if kind != STREAM:
                        raise wrong_kind(kind)
                    case bytes():
                        for data in events.feed(item):
                            complete = complete or data == DONE
                            if not complete:
                                yield from self._chunk(data)
                    case _:
                        yield from self._sign(item)
        if not complete and not self.reason:
            raise faults.BrokenOff("The connection to the model's server broke off; please try again.")

    def speak(self, text: str, voice: str | None) -> Iterator[Event]:
        """A text read aloud, as it comes. Raises RemoteFault."""
        self._doing, said_before = "Speaking", self._spoken
        body = self.dialect.speech(self.model, text, voice)
        with closing(self.line.stream("POST", "/audio/speech", json=body)) as stream:
            for item in stream:
                match item:
                    case Opened(kind) if kind.startswith("text/") or kind == "application/json":
                        raise wrong_kind(kind)
                    case bytes():
                        yield from self._piece(Sound(item, RATE))
                    case _:
                        yield from self._sign(item)
        if self._spoken == said_before:
            raise faults.Garbled("The model's server sent no speech; please try again.")

    def draw(self, prompt: str) -> Iterator[Event]:
        """A picture of a prompt. Raises RemoteFault."""
        self._doing = "Drawing"
        body = {"model": self.model, "prompt": prompt, "n": 1, "response_format": "b64_json"}
        answer = yield from self._asked("POST", "/images/generations", json=body)
        pictures = parsed(Pictures, answer).data
        if not pictures:
            raise faults.Garbled("The model's server sent no picture; please try again.")
        yield from self._piece(File("image", unpacked(pictures[0].b64_json), prompt))

    def film(self, prompt: str, seed: int | None) -> Iterator[Event]:
        """A clip of a prompt, looked after until it is made; who leaves cancels it. Raises RemoteFault."""
        self._doing = "Filming"
        fields = {"model": self.model, "prompt": prompt} | ({} if seed is None else {"seed": str(seed)})
        form = {name: (None, value) for name, value in fields.items()}
        job = parsed(Job, (yield from self._asked("POST", "/videos", files=form)))
        if not re.fullmatch(r"[\w.-]{1,200}", job.id):
            raise faults.Garbled("The model's server sent a clip without a name.")
        address, fetched, give_up = f"/videos/{job.id}", False, time.monotonic() + self.line.patience.whole
        try:
            while job.status not in ("completed", "failed", "cancelled"):
                if time.monotonic() > give_up:
                    raise faults.TooSlow("The model's server took too long for this clip; please try again later.")
                yield Progress("Filming", min(1.0, max(0.0, job.progress / 100)))
                for _ in range(round(POLL / BEAT)):
                    time.sleep(BEAT)
                    yield Progress("Filming", min(1.0, max(0.0, job.progress / 100)))
                job = parsed(Job, (yield from self._asked("GET", address)))
            if job.status != "completed":
                words = faults.said(job.error, self.line.key)
                raise faults.ServerFailed(f"{words}." if words else "The model's server could not make this clip.")
            clip = yield from self._asked("GET", f"{address}/content", most_bytes=TAKEN.upload_bytes)
            fetched = True
            yield from self._piece(File("video", clip, prompt))
        finally:
            if not fetched:
                self.line.send_away("DELETE", address)

    def _asked(self, method: str, path: str, **content: Any) -> Iterator[Event]:
        """Returns the whole body of an answer."""
        body = b""
        with closing(self.line.call(method, path, **content)) as answer:
            for item in answer:
                body = item if item is not None else body
                yield Progress(self._doing)
        return body

    def _sign(self, item: Any) -> Iterator[Event]:
        """A sign of life while nothing comes, or a pause before another try."""
        if isinstance(item, float):
            yield Progress(f"The server is busy; trying again in {item:.0f} s")
        elif item is None:
            yield Progress(self._doing)

    def _chunk(self, data: bytes) -> Iterator[Event]:
        for piece in self.dialect.pieces(read_chunk(data, self.line.key)):
            yield from self._piece(piece)

    def _piece(self, piece: Piece) -> Iterator[Event]:
        match piece:
            case Words(text):
                self.words += text
                if self.shows_text:
                    self.said, self._doing = True, "Writing"
                    self.tally.note("text")
                    yield TextDelta(text)
            case Sound():
                samples = self._samples.take(piece)
                if len(samples):
                    self.said, self._doing, rate = True, "Speaking", self._samples.rate
                    self.tally.note("speech")
                    self.tally.speech_seconds += len(samples) / rate
                    yield SpeechChunk(samples, rate, self._spoken)
                    self._spoken += len(samples)
            case File(kind, content, caption):
                ready = finished(kind, content, caption)
                self.said = True
                self.tally.note("image" if kind == "image" else "clip")
                yield ready
            case Ended(reason):
                self.reason = reason
            case Tokens():
                self._count(piece.read(), piece.made())
            case Extras():
                yield from self._extras(piece)

    def _extras(self, extras: Extras) -> Iterator[Event]:
        if extras.heard is not None:
            yield Heard(extras.heard)
        if extras.progress is not None:
            self._doing = extras.progress.doing
            yield Progress(extras.progress.doing, extras.progress.done)
        if extras.preview is not None:
            yield ImagePreview(extras.preview.pixels(), extras.preview.done)
        if (frame := extras.frame) is not None:
            yield ClipPreview(frame.pixels(), frame.index, max(1, frame.total))
        if extras.usage is not None:
            self._own = extras.usage
            self._count(extras.usage.tokens_in, extras.usage.tokens_out)

    def _count(self, read: dict[str, int], made: dict[str, int]) -> None:
        """Take the newest counts; some servers send them with every chunk."""
        if self._own is None or read is self._own.tokens_in:
            self.tally.tokens_in.update({name: count - self.tally.tokens_in[name] for name, count in read.items()})
            self.tally.tokens_out.update({name: count - self.tally.tokens_out[name] for name, count in made.items()})


def finished(kind: str, content: bytes, caption: str) -> ImageReady | ClipReady:
    """A picture or clip that a server made, decoded as an upload is. Raises Garbled."""
    with tempfile.TemporaryDirectory(prefix="omni-") as name:
        try:
            part = media.take_bytes(content, Path(name), TAKEN)
        except Refused as refusal:
            raise faults.Garbled("The model's server sent a file that cannot be read.") from refusal
        if isinstance(part, Image) and kind == "image":
            return ImageReady(media.read_image(part), caption)
        if isinstance(part, Video) and kind == "video":
            return ClipReady(*_film(part), caption)
    raise faults.Garbled("The model's server sent another kind of file than it said.")


def _film(part: Video) -> tuple[Any, float, Any, int]:
    frames, samples = media.read_video(part, part.fps, None, CLIP_RATE)
    return frames, part.fps, samples, CLIP_RATE


def parsed(kind: type[Any], answer: bytes) -> Any:
    """An answer as an object. Raises Garbled."""
    try:
        return kind.model_validate_json(answer)
    except ValidationError as error:
        raise faults.Garbled("The model's server answered with something that is not known here.") from error


def wrong_kind(kind: str) -> OmniError:
    """What is said of an answer of another kind."""
    shown = json.dumps(kind[:60]) if kind else "nothing known"
    return faults.Garbled(f"The model's server answered with {shown} instead of a reply; is its address right?")
