"""The sounds of things: each its own, and still itself after the codec."""

import numpy as np
import pytest
import torch

from omni.figures import ROOT
from omni.primer.processing import Tokenizers
from omni.primer.tokenizers.audio import mel_matrix
from omni.primer.training.effects import EFFECTS, SECONDS, effect
from omni.primer.training.sounds import RATE
from omni.primer.training.world import OBJECTS


def spectrum(samples: np.ndarray) -> torch.Tensor:
    """Log-mel of SECONDS, whatever the level."""
    samples = torch.from_numpy(samples).float()[: int(SECONDS * RATE)]
    power = torch.stft(samples, 512, 160, window=torch.hann_window(512), return_complex=True).abs()
    bands = torch.log(mel_matrix(257, 40) @ power + 1e-2)
    return bands - bands.mean()


@pytest.fixture(scope="module")
def true() -> dict[str, torch.Tensor]:
    return {name: spectrum(effect(name)) for name in EFFECTS}


def nearest(samples: np.ndarray, true: dict[str, torch.Tensor]) -> str:
    return min(true, key=lambda name: (true[name] - spectrum(samples)).square().mean())


def test_they_are_things_of_the_book():
    assert set(EFFECTS) <= set(OBJECTS)
    assert len(EFFECTS) > 20


def test_the_same_call_gives_the_same_samples():
    assert all(np.array_equal(effect(name), effect(name)) for name in EFFECTS)
    assert all(effect(name).shape == (int(SECONDS * RATE),) and np.abs(effect(name)).max() < 0.5 for name in EFFECTS)


def test_codes_keep_what_makes_the_sound(true):
    tokenizers = Tokenizers.load(ROOT / "omni" / "primer" / "weights")
    heard = {}
    for name in EFFECTS:
        codes = torch.tensor(tokenizers.encode_sound(effect(name)))
        heard[name] = nearest(tokenizers.audio.decode(codes).numpy(), true)
    assert heard == {name: name for name in EFFECTS}


def test_played_anew_it_is_another_sound_of_the_same_thing():
    rng = np.random.default_rng(0)
    assert not np.array_equal(effect("cat", rng), effect("cat", rng))


def test_what_has_no_sound_is_named():
    with pytest.raises(ValueError, match="'cheese' is none of the things that have a sound"):
        effect("cheese")
