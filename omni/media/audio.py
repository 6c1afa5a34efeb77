"""Sound: an upload to a WAV, a part to samples, samples to a part.

Everything is mono: channels are mixed. Does not know loudness; levels are kept as they are.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import soundfile

from omni.conversation import Audio
from omni.errors import Refused
from omni.media.files import fresh
from omni.media.limits import Limits
from omni.media.streams import (
    Mono,
    check_length,
    check_sound,
    check_whole,
    declared_seconds,
    decoded,
    open_container,
    sound_stream,
)

STREAMED = 0x7F00_0000  # bytes


def normalise_sound(upload: BinaryIO, container: str, limits: Limits) -> tuple[dict, bytes]:
    """Decode a sound to mono at its own rate, or the highest that is kept. Runs in the sandbox.

    Returns the facts of an Audio and the bytes of a WAV. Raises Refused where it is too long, empty or absurd;
    whatever PyAV raises where it is damaged.
    """
    if container == "wav":
        check_riff(upload)
    with open_container(upload, container) as opened:
        stream = sound_stream(opened)
        if stream is None:
            raise Refused("There is neither sound nor a clip in this file; please choose another one.")
        check_sound(stream, limits)
        declared = declared_seconds(opened)
        check_length(declared, limits.sound_seconds, "sound")
        mono = Mono(min(stream.rate, limits.sound_rate), limits.sound_seconds, "sound")
        for frame in decoded(opened, stream):
            mono.add(frame)
    samples = mono.samples()
    seconds = len(samples) / mono.rate
    check_whole(seconds, declared, "sound")
    return {"part": "audio", "seconds": seconds, "rate": mono.rate}, wav(samples, mono.rate)


def check_riff(upload: BinaryIO) -> None:
    """Raise Refused where a WAV ends well before the end that its header tells; the demuxer passes over that.

    A WAV that was written to a stream tells zero, or nearly the largest number: no length at all.
    """
    upload.seek(4)
    declared = int.from_bytes(upload.read(4), "little")
    here = upload.seek(0, 2)
    if declared < STREAMED:
        check_whole(here, declared, "sound")


def wav(samples: np.ndarray, rate: int) -> bytes:
    """The bytes of a 16-bit WAV of (N,) float32 samples."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


class Resampler:
    """Samples at one rate to samples at another, as they come; the pieces join without gap.

    State: the filter's memory, and how many samples came and went.
    """

    def __init__(self, rate: int, new_rate: int) -> None:
        self.rate, self.new_rate = rate, new_rate
        self._filter = av.AudioResampler(format="flt", layout="mono", rate=new_rate)
        self._taken = self._given = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """What is known of the sound at the new rate after (N,) float32 more at the old one."""
        if self.rate == self.new_rate or not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), format="flt", layout="mono")
        frame.rate = self.rate
        self._taken += len(samples)
        return self._of(frame)

    def finish(self) -> np.ndarray:
        """The rest, so that all of it is round(N * new_rate / rate) samples."""
        if not self._taken:
            return np.zeros(0, np.float32)
        left = round(self._taken * self.new_rate / self.rate) - self._given
        return fit(self._of(None), max(0, left))

    def _of(self, frame: av.AudioFrame | None) -> np.ndarray:
        pieces = [piece.to_ndarray().reshape(-1) for piece in self._filter.resample(frame)]
        made = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        self._given += len(made)
        return made


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """(N,) float32 at ``rate`` to (round(N * new_rate / rate),) float32 at ``new_rate``."""
    if rate == new_rate or not len(samples):
        return samples
    resampler = Resampler(rate, new_rate)
    pieces = np.concatenate([resampler.push(samples), resampler.finish()])
    return fit(pieces, round(len(samples) * new_rate / rate))


def encode_audio(samples: np.ndarray, rate: int, kind: str) -> bytes:
    """The file of (N,) float32 samples: wav and flac in 16 bits, mp3, or opus in OGG. Raises ValueError for others."""
    if kind == "wav":
        return wav(sound_samples(samples), rate)
    known = {"flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}
    if kind not in known:
        raise ValueError(f"sound is not written as {kind!r}")
    buffer = io.BytesIO()
    container, coding = known[kind]
    soundfile.write(buffer, sound_samples(samples), rate, format=container, subtype=coding)
    return buffer.getvalue()


def fit(samples: np.ndarray, count: int) -> np.ndarray:
    """The samples cut, or continued with silence, to ``count``."""
    return np.pad(samples[:count], (0, max(0, count - len(samples))))


def read_audio(part: Audio, rate: int) -> np.ndarray:
    """The sound of a part: (N,) float32 mono, -1..1, resampled to ``rate``."""
    samples, own_rate = soundfile.read(part.path, dtype="float32", always_2d=True)
    return resample(samples.mean(axis=1), own_rate, rate)


def write_audio(samples: np.ndarray, rate: int, folder: Path, transcript: str = "") -> Audio:
    """Write (N,) float32 samples, -1..1, as a 16-bit WAV into ``folder``. Raises ValueError where they are no sound."""
    samples = sound_samples(samples)
    if not len(samples):
        raise ValueError("there are no samples to write")
    path = fresh(Path(folder), ".wav")
    path.write_bytes(wav(samples, rate))
    return Audio(path, seconds=len(samples) / rate, rate=rate, transcript=transcript)


def sound_samples(samples: np.ndarray) -> np.ndarray:
    """The samples as (N,) float32 within -1..1. Raises ValueError for another shape or for NaN."""
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"samples must be (N,) and finite, not {samples.shape}")
    return samples.clip(-1.0, 1.0)
