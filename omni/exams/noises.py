"""Which thing sounds: the one of the book whose true sound is nearest in log-mels. Nothing is fitted."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from omni.primer.tokenizers.audio import mel_matrix
from omni.primer.training.effects import EFFECTS, SECONDS, effect
from omni.primer.training.sounds import PEAK, RATE

MELS, FFT, HOP = 40, 512, 160
FLOOR = 0.01  # of a band's magnitude: what is quieter is not heard


def thing_in(samples: np.ndarray) -> str:
    """The thing of EFFECTS that (N,) float32 at 16 kHz sounds like; the first SECONDS are listened to."""
    return tuple(EFFECTS)[int((_true() - _spectrum(samples)).square().mean((1, 2)).argmin())]


@cache
def _true() -> Tensor:
    return torch.stack([_spectrum(effect(name)) for name in EFFECTS])


def _spectrum(samples: np.ndarray) -> Tensor:
    """(40, frames) log-mels of SECONDS at one level, mean zero."""
    sound = torch.zeros(int(SECONDS * RATE))
    sound[: len(samples)] = torch.from_numpy(samples[: len(sound)])
    sound *= PEAK / sound.abs().max().clamp_min(1e-4)
    magnitude = torch.stft(sound, FFT, HOP, window=torch.hann_window(FFT), return_complex=True).abs()
    mels = (mel_matrix(FFT // 2 + 1, MELS) @ magnitude + FLOOR).log()
    return mels - mels.mean()
