"""When something happens in a clip, by its pictures and by its sound: a thing that bounces is down, two touch.

No network judges here: things are what differs from the colour at the border, sounds are where the level rises.
"""

from __future__ import annotations

import numpy as np

RATE = 16000
STEP = 160  # samples of one reading of the level
DIFFERENT = 40  # levels of 255, in any channel, from the colour at the border
MOVES = 5.0  # pixels that a thing moves at least, or nothing happens
LOUD, QUIET = 0.25, 0.005  # of the loudest reading, and of full scale: below either nothing is heard
APART = 0.2  # seconds between two sounds
MISSING = 2000.0  # ms: the error where an event is not to be seen or not to be heard, the length of a clip
EVENTS = {"bounce": 2, "meet": 1}


def error_ms(frames: np.ndarray, frame_seconds: float, samples: np.ndarray, motion: str) -> float:
    """The largest distance in ms between an event in the frames and the sound nearest to it; MISSING without either."""
    seen, heard = seen_at(frames, frame_seconds, motion), heard_at(samples)
    if len(seen) != EVENTS[motion] or not heard:
        return MISSING
    distances = [min(abs(moment - sound) for sound in heard) for moment in seen]
    return min(MISSING, 1000 * max(distances))


def seen_at(frames: np.ndarray, frame_seconds: float, motion: str) -> list[float]:
    """Seconds of the events in (T, H, W, 3) uint8 frames of a thing that bounces or of two that meet."""
    masks = [_things(frame) for frame in frames]
    if not all(mask.any() for mask in masks):
        return []
    if motion == "meet":
        width = np.array([np.nonzero(mask)[1].std() for mask in masks])
        return [float(width.argmin()) * frame_seconds] if np.ptp(width) >= MOVES else []
    row = np.array([np.nonzero(mask)[0].mean() for mask in masks])
    if np.ptp(row) < MOVES:
        return []
    before, after = np.r_[-np.inf, row[:-1]], np.r_[row[1:], -np.inf]
    down = (row > before) & (row >= after) & (row > row.min() + np.ptp(row) / 2)
    return [float(index) * frame_seconds for index in np.nonzero(down)[0]]


def heard_at(samples: np.ndarray) -> list[float]:
    """Seconds at which a sound begins in (N,) float32 samples at 16 kHz."""
    blocks = samples[: len(samples) // STEP * STEP].reshape(-1, STEP)
    level = np.sqrt((blocks.astype(np.float64) ** 2).mean(1)) if len(blocks) else np.zeros(0)
    if not len(level) or level.max() < QUIET:
        return []
    loud = level > LOUD * level.max()
    begins: list[float] = []
    for index in np.nonzero(loud & ~np.r_[False, loud[:-1]])[0]:
        second = float(index) * STEP / RATE
        if not begins or second - begins[-1] >= APART:
            begins.append(second)
    return begins


def _things(frame: np.ndarray) -> np.ndarray:
    """(H, W) bool: what is not background."""
    edge = np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]]).astype(np.int16)
    return (np.abs(frame.astype(np.int16) - np.median(edge, 0)) > DIFFERENT).any(-1)
