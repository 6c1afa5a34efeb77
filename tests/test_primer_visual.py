"""Pictures and clips: what comes back has twice the side, and learning to paint leaves the codes as they are."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from primer_tiny import tiny_tokenizers
from torch.nn import functional as F

from omni.primer.shipping import WEIGHTS
from omni.primer.tokenizers.image import PAINTED, SIZE, ImageTokenizer, to_tensor
from omni.primer.tokenizers.storage import load_module, save_module
from omni.primer.training import world
from omni.primer.training.fit_visual import Painting, picture_batch, psnr, seen_and_painted

needs_font = pytest.mark.skipif(not world.FONT.exists(), reason="there is no emoji font")


def test_codes_come_back_at_twice_the_side():
    images, video = tiny_tokenizers().image, tiny_tokenizers().video
    codes = images.encode(torch.rand(2, 3, SIZE, SIZE))
    assert codes.shape == (2, 64)
    assert images.decode(codes).shape == (2, 3, PAINTED, PAINTED)
    first, later = video.encode(images, torch.rand(2, 4, 3, SIZE, SIZE))
    assert later.shape == (2, 3, 16)
    assert video.decode_frame(images, first, later[:, 0]).shape == (2, 3, PAINTED, PAINTED)


def test_a_code_hears_of_the_eight_pixels_around_its_own_and_no_more():
    images, plain = tiny_tokenizers().image, torch.full((1, 3, SIZE, SIZE), 0.5)
    spotted = plain.clone()
    spotted[..., :8, :8] = torch.rand(8, 8)
    changed = (images.latents(plain) != images.latents(spotted)).any(1)[0]
    assert changed[0, 0] and not changed[2:].any() and not changed[:, 2:].any()


@needs_font
def test_the_two_sides_show_the_same_picture():
    scene = world.random_scene(np.random.default_rng(2))
    for jitter in (None, np.random.default_rng(3)):
        seen, painted = seen_and_painted(partial(world.draw, scene), jitter)
        assert psnr(F.avg_pool2d(to_tensor(painted[None]), 2), to_tensor(seen[None])) > 25
    seen, painted = picture_batch(np.random.default_rng(4), 8)
    assert psnr(F.avg_pool2d(painted, 2), seen) > 25


@needs_font
def test_the_second_stage_leaves_the_codes_as_they_are(tmp_path: Path):
    torch.manual_seed(0)
    save_module(ImageTokenizer(), tmp_path / "image.safetensors", int8="decoder")
    before = load_module(ImageTokenizer(), tmp_path / "image.safetensors")
    task = Painting(tmp_path)
    loss = task.loss(np.random.default_rng(0), 8)
    loss.backward()
    with torch.no_grad():
        for parameter in task.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad.sign()
    task.save(tmp_path)
    after = load_module(ImageTokenizer(), tmp_path / "image.safetensors")
    pictures, _ = picture_batch(np.random.default_rng(1), 4)
    codes = before.encode(pictures)
    assert torch.equal(after.encode(pictures), codes)
    assert not torch.equal(after.decode(codes), before.decode(codes))
    assert all(one.grad is not None for one in task.video.parameters())


@needs_font
def test_what_ships_paints_what_it_saw_with_most_of_its_edges():
    images, rng = load_module(ImageTokenizer(), WEIGHTS / "image.safetensors"), np.random.default_rng(5)
    scenes = [world.random_scene(rng, held_out=True) for _ in range(16)]
    seen, painted = (to_tensor([world.draw(scene, None, side) for scene in scenes]) for side in (SIZE, PAINTED))
    made = images.decode(images.encode(seen))
    edges = [one.diff(dim=3).abs().mean() for one in (made, painted)]
    assert edges[0] > 0.7 * edges[1]
    assert psnr(made, painted) > 22
