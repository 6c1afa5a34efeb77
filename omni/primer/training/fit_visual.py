"""Fit the tokenisers of pictures and clips: ``python -m omni.primer.training.fit_visual image --out FOLDER``.

Three stages. ``image``: pictures to codes and back, by L1 and gradient loss, what is drawn counting more than its
ground. ``decoder``: the codes stay as they are, the way back learns to render Primer's own hand; the transformer
may train meanwhile. ``video``: the way back from the codes of a clip. A run goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from omni.primer.tokenizers.image import ImageTokenizer, to_tensor
from omni.primer.tokenizers.storage import load_module, save_module
from omni.primer.tokenizers.video import VideoTokenizer
from omni.primer.training import precision, world
from omni.primer.training.budget import Budget, load_checkpoint, save_checkpoint
from omni.primer.training.optim import muon_for, set_rate

log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 120
OWN_HAND = 0.6  # share of pictures without jitter, as Primer draws: the codes have to be good at its own hand


def picture_batch(rng: np.random.Generator, count: int, own_hand: float = 0.0) -> Tensor:
    """Scenes, single frames of clips and a few pictures from outside the book: (count, 3, 64, 64) of 0..1.

    A share ``own_hand`` of them is as Primer draws, without jitter.
    """
    pictures = []
    for _ in range(count):
        kind, jitter = rng.random(), None if rng.random() < own_hand else rng
        if kind < 0.7:
            pictures.append(world.draw(world.random_scene(rng), jitter))
        elif kind < 0.95:
            pictures.append(world.animate(world.random_clip(rng), jitter)[0][rng.integers(world.FRAMES)])
        else:
            pictures.append(world.unknown_picture(rng))
    return to_tensor(np.stack(pictures))


def clip_batch(rng: np.random.Generator, count: int, frames: int = 3) -> tuple[Tensor, Tensor]:
    """First frames (count * frames, 3, 64, 64), each with a random later frame of its clip."""
    firsts, laters = [], []
    for _ in range(count):
        clip, _ = world.animate(world.random_clip(rng), None if rng.random() < OWN_HAND else rng)
        for index in rng.choice(np.arange(1, world.FRAMES), frames, replace=False):
            firsts.append(clip[0])
            laters.append(clip[index])
    return to_tensor(np.stack(firsts)), to_tensor(np.stack(laters))


def picture_loss(made: Tensor, true: Tensor) -> Tensor:
    """L1 of pixels and of their gradients; pixels that differ from the picture's median colour count four times."""
    ground = true.flatten(2).median(-1).values[..., None, None]
    weight = 1.0 + 3.0 * ((true - ground).abs().mean(1, keepdim=True) > 0.06)
    weight = weight / weight.mean()
    made = made.float()
    edges = sum((made.diff(dim=d) - true.diff(dim=d)).abs().mean() for d in (2, 3))
    return ((made - true).abs() * weight).mean() + 0.5 * edges


def psnr(made: Tensor, true: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of pictures of 0..1."""
    error = (made.clamp(0, 1) - true).square().flatten(1).mean(1)
    return (-10 * error.log10()).mean().item()


def image_step(tokenizer: ImageTokenizer, rng: np.random.Generator, batch: int) -> Tensor:
    """Pictures at full and at half size: the later frames of a clip are coded at half size."""
    true = picture_batch(rng, batch, OWN_HAND / 2).to(memory_format=torch.channels_last)
    loss = 0.0
    for pictures in (true, F.avg_pool2d(true, 2)):
        with precision.autocast():
            made = tokenizer.render(tokenizer.latents(pictures))
        loss = loss + picture_loss(made, pictures)
    return loss


def decoder_step(tokenizer: ImageTokenizer, rng: np.random.Generator, batch: int) -> Tensor:
    true = picture_batch(rng, batch, OWN_HAND).to(memory_format=torch.channels_last)
    with precision.autocast():
        with torch.no_grad():
            latents = tokenizer.latents(true)
        made = tokenizer.render(latents)
    return picture_loss(made, true)


def video_step(tokenizer: VideoTokenizer, images: ImageTokenizer, rng: np.random.Generator, batch: int) -> Tensor:
    first, later = clip_batch(rng, batch)
    with precision.autocast():
        with torch.no_grad():
            latents, target = images.latents(first), images.latents(later)
            small = images.latents(F.avg_pool2d(later, 2))
        made = tokenizer.frame_latents(latents, small)
        pixels = images.render(made)
    return picture_loss(pixels, later) + 0.1 * F.l1_loss(made.float(), target)


@torch.no_grad()
def evaluate(stage: str, tokenizer, images: ImageTokenizer | None) -> float:
    """PSNR in dB of unseen pictures, or of unseen later frames, through their codes."""
    rng = np.random.default_rng(1)
    if stage == "video":
        first, later = clip_batch(rng, 24)
        codes, motion = tokenizer.encode(images, torch.stack([first, later], 1))
        return psnr(tokenizer.decode_frame(images, codes, motion[:, 0]), later)
    true = picture_batch(rng, 64, OWN_HAND if stage == "decoder" else 0.0)
    return psnr(tokenizer.decode(tokenizer.encode(true)), true)


def fit(stage: str, folder: Path, minutes: float, batch: int) -> None:
    """Train one stage for ``minutes`` of the clock in all and save its tokeniser in fp16."""
    rng, images = np.random.default_rng(0), None
    torch.manual_seed(0)
    if stage == "video":
        tokenizer, images = VideoTokenizer(), load_images(folder).requires_grad_(False)
        take_step = partial(video_step, tokenizer, images)
    elif stage == "decoder":
        tokenizer = load_images(folder)
        tokenizer.encoder.requires_grad_(False)
        take_step = partial(decoder_step, tokenizer)
    else:
        tokenizer = ImageTokenizer()
        take_step = partial(image_step, tokenizer)
    (images or tokenizer).to(memory_format=torch.channels_last)
    peak = 0.01 if stage == "decoder" else 0.02
    optimizer = muon_for(tokenizer, lr=peak, adam_lr=peak / 10, adam_names=("places",))
    path, step, spent = folder / f"{stage}.checkpoint", 0, 0.0
    if state := load_checkpoint(path):
        tokenizer.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, rng = state["step"], state["spent"], np.random.default_rng(state["step"])
    budget, saved = Budget(minutes, spent), spent
    weights = folder / ("video.safetensors" if stage == "video" else "image.safetensors")
    while budget.share < 1:
        set_rate(optimizer, budget.rate())
        loss = take_step(rng, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 100 == 0:
            log.info("%s step %d %.0f%% loss %.4f", stage, step, 100 * budget.share, loss.item())
        if budget.spent - saved > CHECKPOINT_SECONDS or budget.share >= 1:
            saved = budget.spent
            state = {"model": tokenizer.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": saved}
            save_checkpoint(path, state)
            save_module(tokenizer, weights, int8="" if stage == "video" else "decoder")
            log.info("%s step %d PSNR %.2f dB", stage, step, evaluate(stage, tokenizer, images))


def load_images(folder: Path) -> ImageTokenizer:
    """The picture tokeniser that the first stage left in ``folder``."""
    return load_module(ImageTokenizer(), folder / "image.safetensors").requires_grad_(True).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["image", "decoder", "video"])
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and weights")
    parser.add_argument("--minutes", type=float, default=20.0, help="minutes of training in all")
    parser.add_argument("--batch", type=int, default=32, help="pictures, or clips, a step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    fit(arguments.stage, arguments.out, arguments.minutes, arguments.batch)


if __name__ == "__main__":
    main()
