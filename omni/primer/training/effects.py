"""The sounds of things: a cat meows, a bell rings. Numpy only, 16 kHz float32, the same call gives the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from omni.primer.training.sounds import PEAK, RATE, finish, knock, mix, wave

SECONDS = 0.8
Curve = Sequence[tuple[float, float]]  # seconds and hertz, straight lines between


def effect(name: str, rng: np.random.Generator | None = None) -> np.ndarray:
    """(12800,) what a thing of EFFECTS sounds like; ``rng`` varies its level and, by a tenth, its speed and pitch."""
    if name not in EFFECTS:
        raise ValueError(f"{name!r} is none of the things that have a sound: {', '.join(EFFECTS)}.")
    out = EFFECTS[name][1]()
    if rng is not None:
        pace = rng.uniform(0.92, 1.08)
        out = np.interp(np.arange(len(out)) * pace, np.arange(len(out)), out, right=0.0)
    return finish(out * (PEAK / np.abs(out).max()), rng)


def _call(
    curve: Curve, timbre: str = "saw", breath: float = 0.0, flutter: float = 0.0, overtone: float = 0.0
) -> np.ndarray:
    """One call along a pitch curve, swelling and dying away.

    ``breath`` is the share of noise, ``flutter`` the hertz of a tremor in loudness.
    """
    seconds = curve[-1][0]
    time = np.arange(int(seconds * RATE)) / RATE
    times, hertz = zip(*curve, strict=True)
    out = wave(np.interp(time, times, hertz), timbre, overtone)
    if breath:
        out = (1 - breath) * out + breath * _noise(seconds, 300, 3000)
    if flutter:
        out *= 0.5 + 0.5 * np.sin(2 * np.pi * flutter * time)
    return out * np.minimum(1, np.minimum(time / 0.03, (seconds - time) / (0.3 * seconds)))


def _noise(seconds: float, low: float, high: float) -> np.ndarray:
    """Noise between two frequencies in hertz, peak about 0.35."""
    count = int(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(5).normal(0, 1, count))
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    out = np.fft.irfft(spectrum * ((hertz > low) & (hertz < high)), count)
    return out * (PEAK / np.abs(out).max())


def _struck(hertz: float, timbre: str, fade: float, seconds: float = SECONDS) -> np.ndarray:
    """A note that is struck and dies away within ``fade`` seconds to a third."""
    count = int(seconds * RATE)
    return wave(np.full(count, hertz), timbre) * np.exp(-np.arange(count) / (fade * RATE))


def _again(sound: np.ndarray, *starts: float) -> np.ndarray:
    """The same sound at several seconds of SECONDS."""
    return _row(*((start, sound) for start in starts))


def _row(*parts: tuple[float, np.ndarray]) -> np.ndarray:
    """Sounds, each from its second of SECONDS on."""
    return mix(int(SECONDS * RATE), parts)


def _swelling(sound: np.ndarray) -> np.ndarray:
    return sound * np.linspace(0.05, 1, len(sound)) ** 1.5


def _beating(sound: np.ndarray, hertz: float) -> np.ndarray:
    """Short strokes of a lasting sound, ``hertz`` of them a second."""
    return sound * np.exp(-((np.arange(len(sound)) / RATE * hertz) % 1) * 5)


def _hoot(seconds: float) -> np.ndarray:
    return _call(((0, 410), (seconds, 250)), "sine", breath=0.15)


def _toot(seconds: float) -> np.ndarray:
    return _call(((0, 440), (seconds, 440)), "square")


def _strum() -> np.ndarray:
    return _row(*((0.2 * at, _struck(hertz, "saw", 0.15, 0.3)) for at, hertz in enumerate((196, 247, 294, 392))))


EFFECTS = {  # what has a sound: what it does, and how that sounds
    "cat": ("meows", partial(_call, ((0, 330), (0.2, 540), (0.45, 500), (0.8, 290)))),
    "dog": ("barks", lambda: _again(_call(((0, 330), (0.05, 300), (0.2, 150)), breath=0.3), 0, 0.4)),
    "cow": ("moos", partial(_call, ((0, 120), (0.25, 150), (0.8, 105)), breath=0.1)),
    "pig": ("oinks", lambda: _again(_call(((0, 140), (0.2, 300)), "square", breath=0.4), 0, 0.28, 0.56)),
    "frog": ("croaks", lambda: _again(_call(((0, 110), (0.3, 140)), flutter=25), 0, 0.42)),
    "bird": ("tweets", lambda: _again(_call(((0, 460), (0.12, 580)), "sine"), 0, 0.16, 0.32, 0.48, 0.64)),
    "duck": ("quacks", lambda: _again(_call(((0, 420), (0.2, 340)), "square", breath=0.15), 0, 0.28, 0.56)),
    "owl": ("hoots", lambda: _row((0, _hoot(0.13)), (0.17, _hoot(0.13)), (0.36, _hoot(0.44)))),
    "bee": ("buzzes", partial(_call, ((0, 280), (0.3, 330), (0.55, 270), (0.8, 320)), flutter=40)),
    "chicken": ("clucks", lambda: _again(_call(((0, 320), (0.09, 520))), 0, 0.16, 0.32, 0.48, 0.64)),
    "lion": ("roars", lambda: _swelling(_call(((0, 85), (0.8, 110)), breath=0.5, flutter=20))),
    "wolf": ("howls", partial(_call, ((0, 220), (0.3, 430), (0.6, 420), (0.8, 300)), "sine", overtone=0.3)),
    "ghost": ("wails", partial(_call, [(0.1 * at, 300 + 90 * (-1) ** at) for at in range(9)], "sine")),
    "car": ("honks", lambda: _again(_call(((0, 415), (0.3, 415)), "square"), 0, 0.4)),
    "train": ("whistles", lambda: _row((0, _toot(0.25)), (0.3, _toot(0.5)))),
    "rocket": ("whooshes", lambda: _swelling(_noise(SECONDS, 60, 5000))),
    "helicopter": ("rattles", lambda: _beating(_noise(SECONDS, 60, 2500), 12)),
    "clock": ("ticks", lambda: _again(_noise(0.03, 2000, 6000), 0, 0.2, 0.4, 0.6)),
    "drum": ("beats", lambda: _again(_struck(90, "sine", 0.06, 0.25), 0, 0.4, 0.6)),
    "bell": ("rings", lambda: _again(_struck(494, "bell", 0.12), 0, 0.27, 0.54)),
    "guitar": ("strums", _strum),
    "hammer": ("knocks", lambda: _again(knock(), 0, 0.3, 0.6)),
    "fire": ("crackles", lambda: _noise(SECONDS, 500, 6000) * (np.random.default_rng(8).random(40) < 0.25).repeat(320)),
}  # fmt: skip
