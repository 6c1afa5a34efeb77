"""Pitch by YIN (de Cheveigné and Kawahara 2002), which is not how the codec tracks it: so it may judge the codec."""

from __future__ import annotations

import numpy as np

RATE = 16000
STEP = 160  # samples between two frames: 10 ms
WINDOW = 480  # samples compared with their shifted selves
LOWEST, HIGHEST = 60.0, 1000.0  # Hz
DIP = 0.15  # the first dip below this is the period
PERIODIC = 0.3  # a frame is voiced where the dip goes below this
QUIET = 0.03  # of the loudest frame's level: nothing is voiced below


def track(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) float32 at 16 kHz to the pitch in Hz and whether it is voiced, both (N // 160,)."""
    shortest, longest = int(RATE / HIGHEST), int(RATE / LOWEST) + 2
    size = WINDOW + longest
    padded = np.pad(samples.astype(np.float64), (size // 2, size // 2 + STEP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::STEP][: len(samples) // STEP]
    if not len(frames):
        return np.zeros(0), np.zeros(0, bool)
    spectrum = np.fft.rfft(frames, 1024)
    head = np.fft.rfft(frames[:, :WINDOW], 1024)
    product = np.fft.irfft(spectrum * head.conj(), 1024)[:, :longest]
    energy = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), 1)
    energy = energy[:, WINDOW : WINDOW + longest] - energy[:, :longest]
    difference = energy[:, :1] + energy - 2 * product
    mean = np.cumsum(difference[:, 1:], 1) / np.arange(1, longest)
    normal = np.concatenate([np.ones((len(frames), 1)), difference[:, 1:] / (mean + 1e-9)], 1)
    lag = _first_dip(normal, shortest)
    rows = np.arange(len(frames))
    before, at, after = (normal[rows, lag + shift] for shift in (-1, 0, 1))
    offset = np.clip(0.5 * (before - after) / np.maximum(before - 2 * at + after, 1e-9), -0.5, 0.5)
    level = np.sqrt(energy[:, 0])
    return RATE / (lag + offset), (at < PERIODIC) & (level > QUIET * level.max())


def _first_dip(normal: np.ndarray, shortest: int) -> np.ndarray:
    """The lag of the first local minimum below DIP of each row (J, lags), else of the lowest point."""
    inner = normal[:, shortest:-1]
    dips = (inner <= normal[:, shortest - 1 : -2]) & (inner < normal[:, shortest + 1 :]) & (inner < DIP)
    return shortest + np.where(dips.any(1), dips.argmax(1), inner.argmin(1))


def cents(hertz: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far apart two pitches are, without sign."""
    return np.abs(1200 * np.log2(hertz / other))


def voicing(true: np.ndarray, made: np.ndarray) -> tuple[int, int, int]:
    """Frames right, frames voiced in ``true``, frames voiced in ``made``; right is voiced in both within 50 cents."""
    length = min(len(true), len(made)) // STEP * STEP
    (pitch, voiced), (made_pitch, made_voiced) = track(true[:length]), track(made[:length])
    right = voiced & made_voiced & (cents(pitch, made_pitch) < 50)
    return int(right.sum()), int(voiced.sum()), int(made_voiced.sum())


def steady_pitch(samples: np.ndarray) -> float | None:
    """The pitch of one note in Hz, or None where nothing is periodic."""
    pitch, voiced = track(samples)
    return float(np.median(pitch[voiced])) if voiced.sum() >= 5 else None
