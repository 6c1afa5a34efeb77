"""Tones, tunes and the sounds of motions: numpy only, 16 kHz float32, the same call gives the same samples."""

from collections.abc import Sequence

import numpy as np

RATE = 16000
NOTES = {"c": 261.63, "d": 293.66, "e": 329.63, "f": 349.23, "g": 392.0, "a": 440.0, "b": 493.88, "high c": 523.25}
_PARTIALS = {
    "sine": ((1, 1.0),),
    "square": tuple((k, 1 / k) for k in range(1, 14, 2)),
    "saw": tuple((k, 1 / k) for k in range(1, 15)),
    "bell": ((1, 1.0), (3, 0.6), (6, 0.3), (10, 0.15)),
}
TIMBRES = tuple(_PARTIALS)
MOTIONS = ("left", "right", "up", "down", "bounce", "spin", "grow", "meet")
_HUM = {"left": 196.0, "right": 294.0, "spin": 392.0, "grow": 262.0}
_BEEP_HZ, PEAK = 523.25, 0.35  # PEAK is that of every sound before its level is set


def tone(note: str, timbre: str, seconds: float = 0.8, rng: np.random.Generator | None = None) -> np.ndarray:
    """(seconds * 16000,) one note of NOTES in one of TIMBRES; a bell dies away, the others last."""
    count = int(seconds * RATE)
    out = wave(np.full(count, NOTES[note]), timbre)
    if timbre == "bell":
        out *= np.exp(-np.arange(count) / (0.45 * RATE))
    return finish(out, rng)


def tune(notes: Sequence[str], timbre: str, seconds_each: float = 0.35, rng: np.random.Generator | None = None):
    """The notes one after the other, (len(notes) * seconds_each * 16000,) float32."""
    if not notes:
        raise ValueError("A tune has one note or more.")
    gain = _gain(rng)
    return np.concatenate([tone(note, timbre, seconds_each) for note in notes]) * gain


def motion_sound(
    motion: str, seconds: float = 2.0, events: Sequence[float] = (), rng: np.random.Generator | None = None
) -> np.ndarray:
    """The sound of a clip in which something moves: MOTIONS; `events` are seconds, for bounces and meetings.

    left, right: steady hums of their own pitch; up, down: glides; bounce: a beep at each event; spin: a tremolo;
    grow: a swelling tone; meet: a knock at each event.
    """
    if motion not in MOTIONS:
        raise ValueError(f"{motion!r} is none of the motions {', '.join(MOTIONS)}.")
    count = int(seconds * RATE)
    at = np.arange(count) / max(1, count)
    if motion in ("bounce", "meet"):
        sound = _beep() if motion == "bounce" else knock()
        return (mix(count, [(event, sound) for event in events]) * _gain(rng)).astype(np.float32)
    if motion in ("up", "down"):
        rise = at if motion == "up" else 1 - at
        return finish(wave(220 * np.exp2(1.25 * rise), "sine", overtone=0.3), rng)
    out = wave(np.full(count, _HUM[motion]), "sine", overtone=0.3)
    if motion == "spin":
        out *= 0.55 + 0.45 * np.sin(2 * np.pi * 6 * np.arange(count) / RATE)
    if motion == "grow":
        out *= 0.05 + 0.95 * at**1.5
    return finish(out, rng)


def mix(count: int, parts: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """(count,) the sounds together, each from its second on; what begins or lasts beyond the end is left out."""
    out = np.zeros(count)
    for second, sound in parts:
        start = int(second * RATE)
        if 0 <= start < count:
            out[start : start + len(sound)] += sound[: count - start]
    return out


def wave(hertz: np.ndarray, timbre: str, overtone: float = 0.0) -> np.ndarray:
    """Sum of the timbre's partials along a pitch curve, those above 7.6 kHz left out; peak about 0.35."""
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    partials = _PARTIALS[timbre] + (((2, overtone),) if overtone else ())
    out = sum(weight * np.sin(k * phase) for k, weight in partials if k * hertz.max() < 7600)
    return out * (PEAK / np.max(np.abs(out)))


def _beep() -> np.ndarray:
    count = int(0.14 * RATE)
    return finish(wave(np.full(count, _BEEP_HZ), "square") * np.exp(-np.arange(count) / (0.08 * RATE)), None)


def knock() -> np.ndarray:
    """A short burst of noise with a low thump under it."""
    count = int(0.12 * RATE)
    time = np.arange(count) / RATE
    burst = np.random.default_rng(3).normal(0, 0.3, count) * np.exp(-time / 0.012)
    return PEAK * (burst + np.sin(2 * np.pi * 140 * time) * np.exp(-time / 0.03))


def finish(out: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Fade both ends by 8 ms against clicks and set the level."""
    ramp = np.minimum(1, np.arange(1, len(out) + 1) / (0.008 * RATE))
    return (out * ramp * ramp[::-1] * _gain(rng)).astype(np.float32)


def _gain(rng: np.random.Generator | None) -> float:
    return 1.0 if rng is None else float(10 ** (rng.uniform(-6, 3) / 20))
