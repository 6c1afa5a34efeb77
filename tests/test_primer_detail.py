"""The second stage of Primer's pictures: nothing to begin with, and as shipped nearer to what was meant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from omni.primer.processing import FRAMES, Tokenizers
from omni.primer.tokenizers.detail import SIZE, DetailDecoder
from omni.primer.tokenizers.image import ImageTokenizer, to_tensor
from omni.primer.training import world
from omni.primer.training.fit_visual import psnr
from omni.primer.training.packing import WEIGHTS

needs_font = pytest.mark.skipif(not world.FONT.exists(), reason="the emoji font is not installed")


@pytest.fixture(scope="module")
def shipped() -> Tokenizers:
    return Tokenizers.load(WEIGHTS)


def smoothly(pictures: torch.Tensor) -> torch.Tensor:
    return F.interpolate(pictures, scale_factor=2, mode="bicubic", align_corners=False).clamp(0, 1)


def test_untrained_it_enlarges_smoothly():
    torch.manual_seed(0)
    images = ImageTokenizer(width=16)
    latents = images.grid(torch.randint(0, 4375, (2, 64)))
    with torch.no_grad():
        made = DetailDecoder(width=16, depth=1, features=8).decode(images, latents)
        painted = images.render(latents)
    assert made.shape == (2, 3, SIZE, SIZE)
    assert torch.allclose(made, smoothly(painted), atol=1e-6)


@needs_font
def test_pictures_are_nearer_to_what_was_meant(shipped: Tokenizers):
    rng = np.random.default_rng(3)
    scenes = [world.random_scene(rng) for _ in range(12)]
    meant = to_tensor([world.draw(scene, None, SIZE) for scene in scenes])
    codes = shipped.encode_images(np.stack([world.draw(scene, None) for scene in scenes]))
    made = to_tensor([shipped.picture(row) for row in codes])
    enlarged = smoothly(shipped.image.decode(torch.tensor(codes)))
    assert psnr(made, meant) > psnr(enlarged, meant) + 1.0


@needs_font
def test_clips_are_nearer_to_what_was_meant(shipped: Tokenizers):
    rng = np.random.default_rng(4)
    better = []
    for _ in range(4):
        clip = world.random_clip(rng)
        ((first, later),) = shipped.encode_clips(world.animate(clip, None)[0][None])
        frames = shipped.clip(first, later)
        assert frames.shape == (FRAMES, SIZE, SIZE, 3) and frames.dtype == np.uint8
        with torch.no_grad():
            start = torch.tensor([first])
            rest = shipped.video.decode_frame(shipped.image, start.expand(len(later), -1), torch.tensor(later))
            enlarged = smoothly(torch.cat([shipped.image.decode(start), rest]))
        meant = to_tensor(world.animate(clip, None, SIZE)[0])
        better.append(psnr(to_tensor(frames), meant) - psnr(enlarged, meant))
    assert np.mean(better) > 0.3
