"""Speech for the tests: what stands in examples/, at the rate of a microphone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from omni.media.audio import resample
from omni.ui.listening import FRAME, RATE

EXAMPLES = Path(__file__).parents[1] / "examples"


def spoken(name: str) -> np.ndarray:
    """(N,) float32 at RATE: "question" is "what do you see", "request" is "draw two fish on blue"."""
    samples, rate = soundfile.read(EXAMPLES / f"{name}.wav", dtype="float32")
    return resample(samples, rate, RATE)


def silence(seconds: float) -> np.ndarray:
    """(N,) float32 at RATE."""
    return np.zeros(round(seconds * RATE), np.float32)


def frames(*pieces: np.ndarray) -> list[np.ndarray]:
    """The pieces one after the other as (FRAME,) arrays; what is left at the end is filled with silence."""
    samples = np.concatenate(pieces)
    return list(np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME))


def microphone_file(path: Path, seconds: float, *said: tuple[str, float]) -> Path:
    """A WAV for a browser's microphone: each example at its second, silence elsewhere."""
    samples = silence(seconds)
    for name, at in said:
        voice = spoken(name)
        start = round(at * RATE)
        samples[start : start + len(voice)] = voice
    soundfile.write(path, resample(samples, RATE, 48_000), 48_000)
    return path
