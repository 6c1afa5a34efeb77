"""Clips: an upload to an MP4, a part to frames and samples, frames and samples to a part.

Frames stand on a constant clock; at each tick the last frame that had begun is shown. Does not know variable rates
beyond that, nor high dynamic range, nor pixels that are not square.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import Image as Pillow

from omni.conversation import Video
from omni.errors import Refused
from omni.media.audio import fit, sound_samples
from omni.media.files import fresh
from omni.media.limits import Limits
from omni.media.mp4 import Clip
from omni.media.streams import (
    Mono,
    check_length,
    check_picture,
    check_sound,
    check_whole,
    declared_seconds,
    decoded,
    open_container,
    picture_stream,
    sound_stream,
)

UPLOAD_CRF, OWN_CRF = 23, 16  # 16 looks the same as its source
SHOWN_SIDE = 256  # our own small frames are enlarged to at least this
SLACK = 1e-3  # seconds by which the time stamps of a container are rounded


def normalise_clip(upload: BinaryIO, container: str, limits: Limits) -> tuple[dict, bytes]:
    """Decode a clip to a constant rate and a small size. Runs in the sandbox.

    Returns the facts of a Video and the bytes of an MP4. Raises Refused where it is too long, too large or empty;
    whatever PyAV raises where it is damaged.
    """
    with open_container(upload, container) as opened:
        pictures, sound = picture_stream(opened), sound_stream(opened)
        context = pictures.codec_context
        check_picture(context.width, context.height, limits)
        declared = declared_seconds(opened)
        check_length(declared, limits.clip_seconds, "clip")
        context.options = {"max_pixels": str(limits.clip_pixels)}  # the header of a frame may say otherwise
        context.thread_type, context.thread_count = "AUTO", 2
        mono = Mono(limits.sound_rate, limits.clip_seconds, "clip")
        if sound is not None:
            check_sound(sound, limits)
        reel = Reel(clip_rate(pictures, limits), limits)
        for frame in decoded(opened, *filter(None, (pictures, sound))):
            track = reel if isinstance(frame, av.VideoFrame) else mono
            track.add(frame)
    samples = mono.samples()
    check_whole(reel.finish(), None, "clip")
    start = 0.0 if mono.start is None else mono.start - reel.origin
    samples = shift(samples, round(start * mono.rate))
    payload = reel.clip.finish(samples, mono.rate)
    seconds = float(reel.clip.count / reel.clip.fps)
    check_length(seconds, limits.clip_seconds, "clip")
    check_whole(seconds, declared, "clip")
    height, width = reel.shape
    facts = {"width": width, "height": height, "seconds": seconds, "fps": float(reel.clip.fps)}
    return {"part": "video", **facts, "has_sound": bool(len(samples))}, payload


def clip_rate(stream: av.VideoStream, limits: Limits) -> Fraction:
    """The rate of the clip that is made: the upload's own where it is known and lower than the highest."""
    own = stream.average_rate
    if own is None or not 1 <= own <= limits.clip_fps:  # a browser's recording tells a thousand, or nothing
        return Fraction(limits.clip_fps)
    return Fraction(own).limit_denominator(1001)


def shift(samples: np.ndarray, start: int) -> np.ndarray:
    """The samples, moved so that the first one stands at ``start``; those before zero are dropped."""
    if not len(samples):
        return samples
    return samples[-start:] if start < 0 else np.pad(samples, (start, 0))


class Reel:
    """Decoded frames onto the ticks of a constant clock.

    State: the clip that is made, the frame that is shown now, and its time. Size and turn of the first frame hold
    for all, as a recording may change its size when a phone is turned.
    """

    def __init__(self, fps: Fraction, limits: Limits) -> None:
        self.fps, self.limits = fps, limits
        self.origin = 0.0  # seconds of the first frame on the container's clock
        self.shape = (0, 0)  # height, width of the clip
        self.clip: Clip | None = None
        self._shown: av.VideoFrame | None = None
        self._time = 0.0  # of the shown frame, from the origin
        self._length = 0.0  # for which it is shown
        self._count = 0

    def add(self, frame: av.VideoFrame) -> None:
        """Take the next frame. Raises Refused where there are too many, too large ones, or too long a time."""
        self._count += 1
        if self._count > self.limits.clip_frames:
            raise Refused(f"This clip has too many frames; at most {self.limits.clip_frames:,} can be read.")
        check_picture(frame.width, frame.height, self.limits)
        if self.clip is None:
            self._begin(frame)
        time = self._time + self._length if frame.time is None else frame.time - self.origin
        time = max(time, self._time)
        check_length(time, self.limits.clip_seconds, "clip")
        self._show_until(time)
        length = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
        self._shown, self._time = frame, time
        self._length = min(length, 1.0) or float(1 / self.fps)

    def finish(self) -> float:
        """Show the last frame for its time. Returns the seconds that are shown."""
        if self.clip is None:
            return 0.0
        self._show_until(max(self._time + self._length, float(1 / self.fps)))
        return float(self.clip.count / self.fps)

    def _begin(self, frame: av.VideoFrame) -> None:
        self.origin = frame.time or 0.0
        self._turn = round(frame.rotation / 90) % 4
        self._scaled = even(frame.width, frame.height, self.limits.clip_side)
        width, height = self._scaled[::-1] if self._turn % 2 else self._scaled
        self.shape = (height, width)
        self.clip = Clip(width, height, self.fps, UPLOAD_CRF)

    def _show_until(self, time: float) -> None:
        ticks = round_up((time - SLACK) * self.fps) - self.clip.count
        if self._shown is None or ticks <= 0:
            return
        width, height = self._scaled
        small = self._shown.reformat(width, height, "rgb24", interpolation="AREA")
        self.clip.add(np.rot90(small.to_ndarray(), self._turn), ticks)


def round_up(number: float | Fraction) -> int:
    """The next whole number."""
    return int(-(-number // 1))


def even(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height, even, with the longest side at most ``side``, in the same proportion."""
    scale = min(1.0, side / max(width, height))
    return tuple(max(2, round(length * scale / 2) * 2) for length in (width, height))


def read_video(part: Video, fps: float, size: int | None, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The clip of a part: frames (T, size, size, 3) uint8 at ``fps``, and samples (N,) float32 mono at ``rate``.

    Frame k shows what stood at k / fps, cropped to the square in its middle, or whole, (T, H, W, 3), where ``size`` is
    None; T = max(1, round(seconds * fps)). N is 0 where the clip is silent, round(seconds * rate) otherwise.
    """
    mono = Mono(rate, part.seconds + 1.0, "clip")
    ticks = np.arange(max(1, round(part.seconds * fps))) / fps + SLACK
    frames: list[np.ndarray] = []
    shown: av.VideoFrame | None = None

    def show_before(time: float) -> None:
        """Show the last frame that has begun at each tick before ``time``."""
        while len(frames) < len(ticks) and ticks[len(frames)] < time:
            pixels = shown.to_ndarray(format="rgb24")
            frames.append(pixels if size is None else square(pixels, size))

    with part.path.open("rb") as file, open_container(file, "mov") as opened:
        pictures, sound = picture_stream(opened), sound_stream(opened)
        streams = [s for s in (pictures, sound if part.has_sound else None) if s is not None]
        for frame in decoded(opened, *streams):
            if isinstance(frame, av.VideoFrame):
                if shown is not None:
                    show_before(frame.time)
                shown = frame
            else:
                mono.add(frame)
    show_before(np.inf)
    samples = mono.samples()
    samples = fit(samples, round(part.seconds * rate)) if part.has_sound else samples
    return np.stack(frames), samples


def square(frame: np.ndarray, size: int) -> np.ndarray:
    """The square in the middle of an (H, W, 3) uint8 frame, as (size, size, 3): each pixel the mean of its area."""
    height, width = frame.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(Pillow.fromarray(frame).resize((size, size), Pillow.Resampling.BOX, box=box))


def write_video(
    frames: np.ndarray, fps: float, samples: np.ndarray, rate: int, folder: Path, caption: str = ""
) -> Video:
    """Write a clip into ``folder`` as an MP4.

    ``frames`` (T, H, W, 3) uint8 at ``fps``; ``samples`` (N,) float32 mono at ``rate``, empty for a silent clip.
    Small frames are enlarged by whole pixels. Sound shorter than the frames is followed by silence; while longer
    sound lasts, the last frame stands. Raises ValueError for other shapes, dtypes or rates.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"frames must be (T, H, W, 3) uint8, not {frames.shape} {frames.dtype}")
    if not 0 < fps <= 240:
        raise ValueError(f"fps must be above 0 and at most 240, not {fps}")
    samples = sound_samples(samples)
    clip = None
    for frame in enlarged(frames):
        clip = clip or Clip(frame.shape[1], frame.shape[0], Fraction(fps).limit_denominator(1001), OWN_CRF)
        clip.add(frame)
    path = fresh(Path(folder), ".mp4")
    path.write_bytes(clip.finish(samples, rate))
    height, width = frame.shape[:2]
    return Video(path, width, height, float(clip.count / clip.fps), float(clip.fps), bool(len(samples)), caption)


def enlarged(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames enlarged by a whole number to at least SHOWN_SIDE, with even sides as 4:2:0 needs them."""
    for frame in frames:
        times = max(1, round_up(SHOWN_SIDE / min(frame.shape[:2])))
        large = frame.repeat(times, axis=0).repeat(times, axis=1)
        height, width = large.shape[:2]
        yield np.pad(large, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
