"""Packets and frames of an upload: opened with an explicit demuxer, bounded, on one clock.

Runs in the sandbox. Knows nothing of what is made of the frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream

from omni.errors import Refused
from omni.media.limits import Limits

BROKEN_PACKETS = 3  # this many are passed over: real recordings end in a half-written one, or in a tag
CUT_OFF = 0.8  # a file that holds less than this part of what its header declares is called cut off
PADDING = 0.25  # seconds that a codec may add to a sound that is exactly as long as allowed


def open_container(upload: BinaryIO, container: str) -> InputContainer:
    """Open with one demuxer. No other file can follow: any that the demuxer asks for is refused."""
    upload.seek(0)
    return av.open(upload, format=container, metadata_errors="replace", io_open=open_nothing)


def open_nothing(url: str, flags: int, options: dict) -> None:
    """What a demuxer gets that asks for a second file."""
    raise PermissionError("a container may not open another file")


def picture_stream(container: InputContainer) -> av.VideoStream | None:
    """The first stream of moving pictures; the cover of a song is none."""
    known = (s for s in container.streams.video if s.codec_context is not None)
    moving = (s for s in known if not s.disposition & Disposition.attached_pic)
    return next(moving, None)


def sound_stream(container: InputContainer) -> av.AudioStream | None:
    """The first stream of sound that can be decoded."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def has_picture_stream(upload: BinaryIO, container: str) -> bool:
    """Whether the container holds moving pictures."""
    with open_container(upload, container) as opened:
        return picture_stream(opened) is not None


def declared_seconds(container: InputContainer) -> float | None:
    """The length that the header tells; None where it tells none (a browser's recording) or only a guess (MP3)."""
    if container.duration is None or container.duration <= 0 or container.format.name == "mp3":
        return None
    return container.duration / av.time_base


def check_length(seconds: float | None, limit: float, what: str) -> None:
    """Raise Refused where a declared or counted length is over the limit."""
    if seconds is not None and seconds > limit + PADDING:
        raise Refused(f"This {what} is too long; at most {limit:g} seconds can be read.")


def check_whole(decoded: float, declared: float | None, what: str) -> None:
    """Raise Refused where nothing was decoded, or much less than declared."""
    if decoded <= 0:
        raise Refused(f"This {what} is empty; please record or choose another one.")
    if declared is not None and decoded < CUT_OFF * declared and declared - decoded > PADDING:
        raise Refused(f"This {what} is damaged or cut off; please save it again or choose another one.")


def check_sound(stream: av.AudioStream, limits: Limits) -> None:
    """Raise Refused for rates and channels that no recording has."""
    lowest, highest = limits.sound_rates
    if not lowest <= (stream.rate or 0) <= highest or not 1 <= stream.channels <= limits.sound_channels:
        raise Refused("This sound has an unusual rate or number of channels; please save it as plain 48 kHz stereo.")


def check_picture(width: int, height: int, limits: Limits) -> None:
    """Raise Refused for frames with too many pixels."""
    if width * height > limits.clip_pixels:
        raise Refused(f"This clip has frames of {width} x {height}; please make it 1080p or smaller.")


def decoded(container: InputContainer, *streams: Stream) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """Decoded frames of the streams as they come, passing over a few broken packets.

    Raises the decoder's error where more are broken.
    """
    broken = 0
    for packet in container.demux(*streams):
        try:
            yield from packet.decode()
        except av.InvalidDataError:
            broken += 1
            if broken > BROKEN_PACKETS:
                raise


class Mono:
    """Decoded sound frames to one run of samples on the clip's clock.

    State: the resampler, the samples so far and their count, the time of the first one.
    """

    def __init__(self, rate: int, longest: float, what: str) -> None:
        self.rate, self.longest, self.what = rate, longest, what
        self.start: float | None = None  # seconds, on the container's clock
        mix = {"rematrix_maxval": "1.0"}  # the mean of the channels, where the default lets loud ones overflow
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=rate, options=mix)
        self._pieces: list[np.ndarray] = []
        self._count = 0

    def add(self, frame: av.AudioFrame | None) -> None:
        """Take one frame, or None at the end. Raises Refused where the sound gets longer than allowed."""
        if frame is not None:
            if self.start is None:
                self.start = frame.time or 0.0
            frame.pts = None  # gaps of a recording are not stretched by the resampler
        for piece in self._resampler.resample(frame):
            samples = piece.to_ndarray().reshape(-1)
            self._pieces.append(samples)
            self._count += len(samples)
        check_length(self._count / self.rate, self.longest, self.what)

    def samples(self) -> np.ndarray:
        """All samples: (N,) float32, -1..1. Raises Refused where one is no number."""
        if self._count:
            self.add(None)
        joined = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.float32)
        if not np.isfinite(joined).all():
            raise Refused("This sound holds values that are no sound; please save it again as 16-bit WAV.")
        return joined.clip(-1.0, 1.0)
