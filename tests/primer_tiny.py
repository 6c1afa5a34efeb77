"""A tiny Primer with random weights and real tokenisers, for tests of everything that does not need a trained one."""

from __future__ import annotations

from functools import cache

import torch

from omni.primer.configuration import SIZES, PrimerConfig
from omni.primer.modeling import PrimerForCausalLM
from omni.primer.processing import Tokenizers
from omni.primer.tokenizers.audio import AudioConfig, AudioTokenizer
from omni.primer.tokenizers.image import ImageTokenizer
from omni.primer.tokenizers.text import TextTokenizer
from omni.primer.tokenizers.video import VideoTokenizer

WORDS = ["Here is a cat above a rocket on green.", "what do you see", "I see two fish on blue.", "hello there"] * 8


@cache
def tiny_model(seed: int = 0) -> PrimerForCausalLM:
    torch.manual_seed(seed)
    model = PrimerForCausalLM(PrimerConfig(**SIZES["tiny"]))
    model.set_experts_implementation("eager")
    return model.eval().requires_grad_(False)


@cache
def tiny_tokenizers(seed: int = 0) -> Tokenizers:
    torch.manual_seed(seed)
    images = ImageTokenizer(width=16).eval().requires_grad_(False)
    images.decoder[-2].weight *= 0.2  # its pictures have little noise, as those of a trained one
    return Tokenizers(
        TextTokenizer.train(WORDS),
        images,
        VideoTokenizer(width=24, depth=1).eval().requires_grad_(False),
        AudioTokenizer(AudioConfig()).eval().requires_grad_(False),
    )
