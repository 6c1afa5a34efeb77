"""The watermark of a playground, as its files need it: pictures, clips, voices on their way, and all of them again.

A learned mark would be another class with the methods of ``Watermark``; none is shipped, as none comes without weights.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np

from omni.conversation import Audio, Image, Video
from omni.media import read_audio, read_image, read_video
from omni.provenance.picture_mark import PictureMark
from omni.provenance.sound_mark import RATE, SoundMark
from omni.provenance.watermark import Found

MOST_FRAMES = 64  # of a clip that are looked at


class Voice(Protocol):
    """A voice that is marked on its way."""

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The next samples (N,) float32, marked: as many as came, and the same however they are cut into pieces."""
        ...


class Watermark(Protocol):
    """Marks what a model makes with a number of 0..1023, and finds that number again."""

    def mark_picture(self, pixels: np.ndarray, payload: int) -> np.ndarray:
        """(H, W, 3) uint8 with the mark."""
        ...

    def mark_frames(self, frames: np.ndarray, payload: int) -> np.ndarray:
        """(T, H, W, 3) uint8 with the mark; each frame as ``mark_picture`` would mark it."""
        ...

    def voice(self, rate: int, payload: int) -> Voice:
        """A voice at ``rate`` samples a second that begins now."""
        ...

    def find(self, part: Image | Audio | Video) -> Found:
        """The likeliest mark in a file."""
        ...


class SpreadSpectrum:
    """The mark that is shipped: see ``watermark``, ``picture_mark`` and ``sound_mark``. State: the key's patterns."""

    def __init__(self, key: bytes) -> None:
        self.pictures, self.sounds = PictureMark(key), SoundMark(key)

    def mark_picture(self, pixels: np.ndarray, payload: int) -> np.ndarray:
        return self.pictures.mark(pixels, payload)

    def mark_frames(self, frames: np.ndarray, payload: int) -> np.ndarray:
        return np.stack([self.pictures.mark(frame, payload) for frame in frames])

    def voice(self, rate: int, payload: int) -> Voice:
        return self.sounds.stream(rate, payload)

    def find(self, part: Image | Audio | Video) -> Found:
        match part:
            case Image():
                return self.pictures.find(read_image(part))
            case Audio():
                return self.sounds.find(read_audio(part, RATE), RATE)
            case Video():
                fps = min(part.fps, MOST_FRAMES / max(part.seconds, 1e-3))
                return self.find_clip(*read_video(part, fps, None, RATE), RATE)

    def find_clip(self, frames: np.ndarray, samples: np.ndarray, rate: int) -> Found:
        """The surer of the marks in frames (T, H, W, 3) and samples (N,): the grain stands still while things move."""
        seen = self.pictures.find(frames.mean(axis=0, dtype=np.float32))
        if not len(samples):
            return seen
        surer = min(seen, self.sounds.find(samples, rate), key=lambda found: found.p)
        return Found(min(1.0, 2 * surer.p), surer.payload)


@lru_cache(maxsize=4)
def watermark_of(key: bytes) -> Watermark:
    """The watermark with this key."""
    return SpreadSpectrum(key)
