"""Whether a microphone hears the page's own voice.

The browser's echo cancellation comes first. This is for what it lets through, and for browsers and speakers where it
does little: the last quarter of a second of the microphone is looked for in what was played within the last second.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve

from omni.media.audio import resample
from omni.ui.listening import FRAME, RATE

WINDOW = 8 * FRAME  # samples of the microphone that are looked for
BACK, AHEAD = int(0.8 * RATE), int(0.15 * RATE)  # how far from the reported place the echo may lie
LINGERS = int(0.6 * RATE)  # samples of the microphone in which an echo may still come after the voice has ended
BEFORE = BACK + WINDOW  # samples of silence in front of every reply
OWN = 0.1  # share of the microphone's energy; another voice explains 0.03 at most, an echo in a room 0.15 or more
QUIET = 1e-6  # mean power of differences below which there is nothing to compare


class Echo:
    """Compares a reply with the microphone.

    State: the reply so far at RATE, the microphone's last WINDOW, where the reply sounded and how long it is silent.
    """

    def __init__(self) -> None:
        self._played = np.zeros(60 * RATE, np.float32)
        self._heard = np.zeros(WINDOW, np.float32)
        self._length = BEFORE
        self._place, self._silent = 0, LINGERS

    def begin(self) -> None:
        """Another reply comes."""
        self._length, self._silent = BEFORE, LINGERS

    def play(self, samples: np.ndarray, rate: int) -> None:
        """More of the reply, (N,) float32."""
        samples = resample(samples, rate, RATE)
        if self._length + len(samples) > len(self._played):
            self._played = np.concatenate([self._played, np.zeros_like(self._played)])
        self._played[self._length : self._length + len(samples)] = samples
        self._length += len(samples)

    def hear(self, frame: np.ndarray, place: int | None) -> bool:
        """Take a frame of the microphone; whether it holds the reply as it sounds around sample ``place``.

        ``place`` is None where nothing sounds.
        """
        self._heard = np.concatenate([self._heard[len(frame) :], frame])
        self._silent = 0 if place is not None else self._silent + len(frame)
        if self._silent >= LINGERS:
            return False
        place = self._place = self._place + len(frame) if place is None else place
        played = self._played[min(self._length, BEFORE + place) - BEFORE : min(self._length, BEFORE + place + AHEAD)]
        return explained(self._heard, played) > OWN


def explained(heard: np.ndarray, played: np.ndarray) -> float:
    """Share 0..1 of ``heard``'s energy that a delayed and scaled piece of ``played`` explains.

    The squared peak of the normalised cross-correlation, of differences, so that low notes do not outweigh the rest.
    """
    heard, played = np.diff(heard), np.diff(played)
    if len(played) < len(heard) or np.mean(heard**2) < QUIET:
        return 0.0
    products = fftconvolve(played, heard[::-1], mode="valid")
    energy = np.cumsum(np.concatenate([[0.0], played.astype(np.float64) ** 2]))
    energies = energy[len(heard) :] - energy[: -len(heard)]
    audible = energies > QUIET * len(heard)
    if not audible.any():
        return 0.0
    return float(np.max(products[audible] ** 2 / energies[audible]) / np.sum(heard**2))
