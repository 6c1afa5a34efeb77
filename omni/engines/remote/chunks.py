"""What comes in a stream: chunks as servers send them, and the pieces of a reply in them.

Everything is checked on the way in. Sound is 16-bit, little-endian, mono; a chunk of it may be a whole WAV file, and
may end in the middle of a sample.
"""

from __future__ import annotations

import base64
import binascii
import io
import wave
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from omni.engines.remote import faults

RATE = 24_000  # samples a second, where nothing else is said
MOST_PIXELS = 4_000_000  # of a preview


class AudioDelta(BaseModel):
    data: str | None = None
    transcript: str | None = None


class Address(BaseModel):
    url: str


class ContentPart(BaseModel):
    type: str
    text: str | None = None
    image_url: Address | None = None
    video_url: Address | None = None
    caption: str = ""


class Delta(BaseModel):
    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    audio: AudioDelta | None = None


class AudioMetadata(BaseModel):
    sample_rate_hz: int | None = Field(None, ge=4_000, le=192_000)
    channels: int | None = Field(None, ge=1, le=1)


class Choice(BaseModel):
    delta: Delta | None = None
    finish_reason: str | None = None
    audio_metadata: AudioMetadata | None = None


class Tokens(BaseModel):
    """Counts; the details are by modality, and what is not detailed is text."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: dict[str, Any] | None = None
    completion_tokens_details: dict[str, Any] | None = None

    def read(self) -> dict[str, int]:
        """Tokens of the prompt by modality."""
        return by_modality(self.prompt_tokens, self.prompt_tokens_details, "audio")

    def made(self) -> dict[str, int]:
        """Tokens of the reply by modality."""
        return by_modality(self.completion_tokens, self.completion_tokens_details, "speech")


def by_modality(count: int | None, details: dict[str, Any] | None, sound: str) -> dict[str, int]:
    """``12, {"audio_tokens": 9}`` as ``{"text": 3, "speech": 9}`` where sound is speech."""
    names = {"audio_tokens": sound, "image_tokens": "image", "video_tokens": "video"}
    counts = {name: (details or {}).get(word) for word, name in names.items()}
    told = {name: number for name, number in counts.items() if isinstance(number, int) and number > 0}
    return {name: number for name, number in {"text": (count or 0) - sum(told.values()), **told}.items() if number > 0}


class Raw(BaseModel):
    """Pixels without a file format: zlib of width * height * 3 bytes, in base64."""

    width: int = Field(ge=1, le=8192)
    height: int = Field(ge=1, le=8192)
    rgb: str
    done: float = 0.0
    index: int = 0
    total: int = 1

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8. Raises Garbled."""
        size = self.width * self.height * 3
        if size > 3 * MOST_PIXELS:
            raise faults.Garbled("The model's server sent a preview that is too large.")
        try:
            flat = zlib.decompressobj().decompress(unpacked(self.rgb), size)
            return np.frombuffer(flat, np.uint8).reshape(self.height, self.width, 3)
        except (zlib.error, ValueError) as error:
            raise faults.Garbled("The model's server sent a damaged preview.") from error


class Doing(BaseModel):
    doing: str = Field(max_length=200)
    done: float | None = None


class OwnUsage(BaseModel):
    """What our own server counted, by modality; see omni.events.Usage."""

    tokens_in: dict[str, int] = {}
    tokens_out: dict[str, int] = {}
    experts_used: int = 0
    experts_fetched: int = 0
    bytes_fetched: int = 0
    peak_memory_mb: float | None = None


class Extras(BaseModel):
    """What our own server says beyond the protocol."""

    heard: str | None = None
    progress: Doing | None = None
    preview: Raw | None = None
    frame: Raw | None = None
    usage: OwnUsage | None = None


class Chunk(BaseModel):
    """One chunk of a stream, of any server. ``modality`` is vLLM-Omni's."""

    choices: list[Choice] = []
    usage: Tokens | None = None
    error: Any = None
    modality: str | None = None
    omni: Extras | None = None


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Sound:
    """Bytes as they came, decoded from base64."""

    content: bytes
    rate: int


@dataclass(frozen=True)
class File:
    """A finished picture or clip."""

    kind: str  # image or video
    content: bytes
    caption: str = ""


@dataclass(frozen=True)
class Ended:
    """The reply is complete; ``reason`` is the server's."""

    reason: str


Piece = Words | Sound | File | Ended | Tokens | Extras


def read_chunk(data: bytes, key: str) -> Chunk:
    """A chunk. Raises Garbled for what is none, ServerFailed for an error in its place."""
    try:
        chunk = Chunk.model_validate_json(data)
    except ValidationError as error:
        raise faults.Garbled("The model's server sent something that is no part of a reply.") from error
    if chunk.error is not None:
        words = faults.said(chunk.error, key)
        raise faults.ServerFailed(words + "." if words else "The model's server failed in the middle of its reply.")
    return chunk


def unpacked(data: str) -> bytes:
    """The bytes of base64. Raises Garbled."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise faults.Garbled("The model's server sent something that is no base64.") from error


def inline(url: str) -> bytes:
    """The bytes of a ``data:`` address; no other is followed. Raises Garbled."""
    head, _, body = url.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64"):
        raise faults.Garbled("The model's server sent an address instead of a file; it has to send files inline.")
    return unpacked(body)


class Samples:
    """Sound as it comes to samples. State: the rate of the speech, half a sample that waits for its other half."""

    def __init__(self) -> None:
        self.rate: int | None = None
        self._half = b""

    def take(self, sound: Sound) -> np.ndarray:
        """(N,) float32, -1..1; a 16-bit file of them holds the very numbers that came. Raises Garbled."""
        content, rate = (without_riff(sound.content)) if sound.content[:4] == b"RIFF" else (sound.content, sound.rate)
        if self.rate is None:
            self.rate = rate
        if rate != self.rate:
            raise faults.Garbled("The model's server changed the rate of its speech on the way.")
        content = self._half + content
        whole = len(content) & ~1
        self._half = content[whole:]
        return np.frombuffer(content[:whole], "<i2").astype(np.float32) / np.float32(32768)


def without_riff(content: bytes) -> tuple[bytes, int]:
    """The samples of a WAV file and their rate. Raises Garbled for other than 16-bit mono."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            if file.getsampwidth() != 2 or file.getnchannels() != 1:
                raise faults.Garbled("The model's server speaks in another form than 16-bit mono.")
            return file.readframes(file.getnframes()), file.getframerate()
    except (wave.Error, EOFError) as error:
        raise faults.Garbled("The model's server sent a damaged sound.") from error
