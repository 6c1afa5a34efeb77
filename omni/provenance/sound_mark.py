"""The mark in sound: a noise that follows the voice, some fifteen decibels below it.

What is added to a hop of 20 ms is shaped after the hop before it, so that speech is marked on its way, without a delay,
and the same whatever the pieces in which it comes. Its level is bounded twice: in every band by the sound itself, and
over all that has been said so far by ``RATIO``. It is found again at another rate, level or beginning; not at another
speed, and only in sounds whose rate is a multiple of 50.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from omni.media.audio import resample
from omni.provenance.watermark import NOTHING, Found, bound, chips

RATE = 16_000  # samples a second, at which the mark is laid out
HOPS = 50  # a second
HOP = RATE // HOPS
BINS = HOP + 1  # of a window of two hops, 25 Hz each
PERIOD = 8192  # samples, after which the chips repeat: half a second
STEP = PERIOD // 1024  # samples of shift between two payloads
LOWEST, HIGHEST = 1400.0, 6500.0  # Hz
BELOW = 12.0  # decibels below the sound, in every band
RATIO = 10 ** (-30.5 / 10)  # energy of the mark over that of the sound
COHERENT = 4 / 3  # two overlapping windows of the same chips have this much more energy than one after the other
QUIET = 1e-4  # power below the loudest band, from which on bands count as equally loud
SILENCE = 1e-7  # power of a bin that counts as silent
DECAY = 4.0  # how much more a window counts that has just become quiet: its mark is still that of the loud one
SHORTEST = 0.25  # seconds
TRIES = PERIOD * (PERIOD // STEP)

_HERTZ = np.arange(BINS) * float(HOPS) / 2
_SHAPE = np.sqrt(1 / (1 + (LOWEST / np.maximum(_HERTZ, 1.0)) ** 6) / (1 + (_HERTZ / HIGHEST) ** 16))


class SoundMark:
    """Marks sound with a key and finds its own marks. State: the key's chips."""

    def __init__(self, key: bytes) -> None:
        self._where = chips(key, "sound: where", PERIOD)
        self._when = chips(key, "sound: when", PERIOD)

    def stream(self, rate: int, payload: int) -> SoundStream:
        """A voice that begins now, at ``rate`` samples a second."""
        return SoundStream(self._where + np.roll(self._when, STEP * payload), rate)

    def mark(self, samples: np.ndarray, rate: int, payload: int) -> np.ndarray:
        """(N,) float32, -1..1, with the mark."""
        return self.stream(rate, payload).push(samples)

    def find(self, samples: np.ndarray, rate: int) -> Found:
        """The likeliest mark in (N,) float32 samples, wherever they were cut."""
        samples = resample(samples, rate, RATE)
        if len(samples) < SHORTEST * RATE:
            return NOTHING
        white = _whitened(samples)
        folded = np.pad(white, (0, -len(white) % PERIOD)).reshape(-1, PERIOD).sum(axis=0)
        spectrum, norm = fft.rfft(folded), np.sqrt(np.square(folded).sum()) + 1e-9
        where = fft.irfft(spectrum * fft.rfft(self._where).conj(), PERIOD)
        when = fft.irfft(spectrum * fft.rfft(self._when).conj(), PERIOD)
        start = int(where.argmax())
        codes = np.roll(when, -start)[::STEP]
        return Found(bound(float((where[start] + codes.max()) / norm / np.sqrt(2)), TRIES), int(codes.argmax()))


class SoundStream:
    """One voice on its way.

    State: how many hops were begun and how much of this one has passed; the last two hops that passed; what the windows
    so far add to this hop and to the next; the energies of sound and mark so far.
    """

    def __init__(self, pattern: np.ndarray, rate: int) -> None:
        self._pattern = pattern
        self._hop = max(2, round(rate / HOPS))
        self._own_window, self._chip_window = _window(self._hop), _window(HOP)
        self._passed = np.zeros(2 * self._hop, np.float32)
        self._here = 0  # samples of this hop that have passed
        self._hops = 0
        self._sound = self._mark = 0.0
        self._now, self._next = np.zeros(self._hop), np.zeros(self._hop)
        self._begin_hop()

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The next samples (N,) float32, -1..1, with the mark: as many as came."""
        samples = np.asarray(samples, np.float32)
        marked = np.empty_like(samples)
        done = 0
        while done < len(samples):
            count = min(len(samples) - done, self._hop - self._here)
            piece, here = samples[done : done + count], slice(self._here, self._here + count)
            marked[done : done + count] = piece + self._now[here]
            self._passed[self._hop :][here] = piece
            self._here, done = self._here + count, done + count
            if self._here == self._hop:
                self._end_hop()
        return marked.clip(-1.0, 1.0)

    def _end_hop(self) -> None:
        hop = self._passed[self._hop :]
        self._sound += float(np.dot(hop, hop))
        self._begin_hop()
        self._passed[: self._hop] = hop
        self._here = 0

    def _begin_hop(self) -> None:
        """What the window that begins now adds, shaped after the two hops before it."""
        length = 2 * self._hop
        power = np.abs(fft.rfft(self._passed * self._own_window)) ** 2 / length
        bins = min(BINS, len(power))
        shape = np.sqrt(_envelope(power[:bins])) * _SHAPE[:bins] * 10 ** (-BELOW / 20)
        places = (self._hops * HOP + np.arange(2 * HOP)) % PERIOD
        noise = fft.rfft(self._pattern[places] * self._chip_window)[:bins] / np.sqrt(2 * 2 * HOP)  # two patterns
        window = fft.irfft(np.pad(shape * noise, (0, len(power) - bins)), length) * np.sqrt(length) * self._own_window
        energy = COHERENT * float(np.dot(window, window))
        room = max(0.0, RATIO * self._sound - self._mark)
        if energy > room:
            window, energy = window * np.sqrt(room / energy), room
        self._mark += energy
        self._now, self._next = self._next + window[: self._hop], window[self._hop :]
        self._hops += 1


def _window(hop: int) -> np.ndarray:
    """Of two hops; its square, shifted by hops, sums to one."""
    return np.sin(np.pi * np.arange(2 * hop) / (2 * hop))


def _envelope(power: np.ndarray) -> np.ndarray:
    """Power (..., bins) smoothed over some 250 Hz, and with a floor."""
    smooth = ndimage.gaussian_filter1d(power, 5.0, axis=-1, mode="nearest")
    return np.maximum(smooth, QUIET * smooth.max(axis=-1, keepdims=True))


def _whitened(samples: np.ndarray) -> np.ndarray:
    """Samples at RATE with the spectrum of each window made flat, and weighed by how loud its mark should be."""
    hops = -(-len(samples) // HOP) + 1
    padded = np.pad(samples, (HOP, (hops + 1) * HOP - len(samples)))
    window = _window(HOP)
    spectra = fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, 2 * HOP)[::HOP] * window, axis=1)
    power = _envelope(np.abs(spectra) ** 2) + SILENCE
    before = np.concatenate([power[:1], power[:-1]])
    weights = _SHAPE * np.minimum(np.sqrt(before / power), DECAY) / np.sqrt(power)
    windows = fft.irfft(spectra * weights, 2 * HOP, axis=1) * window
    joined = np.zeros((len(windows) + 1, HOP))
    joined[:-1] += windows[:, :HOP]
    joined[1:] += windows[:, HOP:]
    return joined.reshape(-1)
