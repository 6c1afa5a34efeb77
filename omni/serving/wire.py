"""From events to what is sent: pieces of OpenAI's ``chat.completion.chunk``, and files in base64.

Speech is 16-bit at the rate that was asked for. What OpenAI's protocol has no word for (what was understood, what is
being done, half a picture) stands in a field ``omni``, for those who asked for it.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from omni import media
from omni.events import (
    ClipPreview,
    ClipReady,
    Event,
    Finished,
    Heard,
    ImagePreview,
    ImageReady,
    Progress,
    SpeechChunk,
    TextDelta,
    Usage,
)
from omni.provenance.imprint import Imprint
from omni.serving.protocol import SPEECH_RATE, STREAMED_SOUND

Piece = dict[str, Any]  # fields of a chunk: ``delta``, ``omni``, ``finish_reason``, ``audio_metadata``, ``usage``


class Wire:
    """Events to pieces. State: the resampler of the speech, and what was last told of the progress."""

    def __init__(self, imprint: Imprint, rate: int | None, progress: bool, name: str):
        """``rate`` of the speech, None as it is made; ``imprint`` makes the files; ``name`` of the speech."""
        self.imprint, self.rate, self.progress, self.name = imprint, rate, progress, name
        self._resampler: media.Resampler | None = None
        self._speaks_at = 0
        self._doing: Progress | None = None

    def pieces(self, event: Event) -> Iterator[Piece]:
        """What is sent of an event: nothing, one piece, or several."""
        match event:
            case TextDelta(text):
                yield {"delta": {"content": text}}
            case SpeechChunk(samples, rate):
                yield from self._speech(samples, rate)
            case ImageReady(pixels, caption):
                yield {"delta": {"content": [self.picture(pixels, caption)]}}
            case ClipReady(caption=caption):
                part = {"type": "video_url", "video_url": {"url": data_url(self.clip(event), "video/mp4")}}
                yield {"delta": {"content": [part | {"caption": caption}]}}
            case Finished(usage, reason, why):
                yield from self._rest()
                if reason == "cut":
                    yield {"error": {"message": why, "type": "server_error", "code": "cut"}}
                    return
                yield {"delta": {}, "finish_reason": "length" if reason == "length" else "stop"}
                yield {"usage": counted(usage), "omni": {"usage": asdict(usage)}}
            case _ if self.progress:
                yield from self._progress(event)

    def picture(self, pixels: np.ndarray, caption: str) -> dict[str, Any]:
        """A finished picture as a content part."""
        content = self.imprint.image(pixels, caption).path.read_bytes()
        return {"type": "image_url", "image_url": {"url": data_url(content, "image/png")}, "caption": caption}

    def clip(self, event: ClipReady) -> bytes:
        """A finished clip as an MP4."""
        made = self.imprint.video(event.frames, event.fps, event.samples, event.rate, event.caption)
        return made.path.read_bytes()

    def _speech(self, samples: np.ndarray, rate: int) -> Iterator[Piece]:
        if self._resampler is None:
            self._speaks_at = self.rate or rate
            self._resampler = media.Resampler(rate, self._speaks_at)
        yield from self._sound(self._resampler.push(samples))

    def _rest(self) -> Iterator[Piece]:
        if self._resampler is not None:
            yield from self._sound(self._resampler.finish())

    def _sound(self, samples: np.ndarray) -> Iterator[Piece]:
        if len(samples):
            about = {"format": "pcm16", "sample_rate_hz": self._speaks_at, "channels": 1}
            yield {"delta": {"audio": {"id": self.name, "data": encoded(pcm16(samples))}}, "audio_metadata": about}

    def _progress(self, event: Event) -> Iterator[Piece]:
        match event:
            case Heard(text):
                yield {"omni": {"heard": text}}
            case Progress() if event != self._doing:
                self._doing = event
                yield {"omni": {"progress": asdict(event)}}
            case ImagePreview(pixels, done):
                yield {"omni": {"preview": {"done": done, **raw(pixels)}}}
            case ClipPreview(frame, index, total):
                yield {"omni": {"frame": {"index": index, "total": total, **raw(frame)}}}


def pcm16(samples: np.ndarray) -> bytes:
    """(N,) float32 in -1..1 as little-endian 16-bit numbers: the upper half of 32 bits, as libsndfile writes a WAV."""
    whole = np.rint(samples.astype(np.float64) * 2**31).clip(-(2**31), 2**31 - 1)
    return (whole.astype(np.int64) >> 16).astype("<i2").tobytes()


def sound_file(samples: np.ndarray, rate: int, kind: str) -> bytes:
    """A whole sound as a file of a kind; bare samples (pcm, pcm16) come at OpenAI's rate."""
    if kind in STREAMED_SOUND:
        return pcm16(media.resample(samples, rate, SPEECH_RATE))
    return media.encode_audio(samples, rate, kind)


def raw(pixels: np.ndarray) -> dict[str, Any]:
    """(H, W, 3) uint8 without a file format around it, so that the other end needs no parser for it."""
    height, width, _ = pixels.shape
    return {"width": width, "height": height, "rgb": encoded(zlib.compress(np.ascontiguousarray(pixels), 1))}


def encoded(content: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(content).decode()


def data_url(content: bytes, kind: str) -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{encoded(content)}"


def counted(usage: Usage) -> dict[str, Any]:
    """Usage in OpenAI's words."""
    read, made = sum(usage.tokens_in.values()), sum(usage.tokens_out.values())
    return {
        "prompt_tokens": read,
        "completion_tokens": made,
        "total_tokens": read + made,
        "prompt_tokens_details": details(usage.tokens_in),
        "completion_tokens_details": details(usage.tokens_out),
    }


def details(tokens: dict[str, int]) -> dict[str, int]:
    """``{"text": 3, "speech": 9}`` as ``{"text_tokens": 3, "audio_tokens": 9}``."""
    return {f"{'audio' if name == 'speech' else name}_tokens": count for name, count in tokens.items()}
