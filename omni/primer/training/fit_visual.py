"""Fit the tokenisers of pictures and clips: ``python -m omni.primer.training.fit_visual image --out FOLDER``.

Two stages. ``image``: pictures to codes and back, by L1 and gradient loss, what is drawn counting more than its
ground. ``decoder``: the codes stay as they are, and the ways back from those of pictures and of clips learn together to
render Primer's own hand; the transformer may train meanwhile. A run goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.primer.tokenizers.image import PAINTED, SIZE, ImageTokenizer, to_tensor
from omni.primer.tokenizers.storage import load_module, save_module
from omni.primer.tokenizers.video import VideoTokenizer
from omni.primer.training import precision, world
from omni.primer.training.budget import Budget, load_checkpoint, save_checkpoint
from omni.primer.training.optim import muon_for, set_rate

log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 120
OWN_HAND = 0.3  # share of pictures without jitter, as Primer draws: the codes have to be good at its own hand
MISREAD = 0.04  # share of codes that are those of another picture: the transformer errs too
PEAK = {"image": 0.02, "decoder": 0.01}  # learning rates


def seen_and_painted(make: Callable[[np.random.Generator | None, int], np.ndarray], rng: np.random.Generator | None):
    """What ``make`` draws at the side that is seen and at the side that is painted, with the same random numbers."""
    return make(deepcopy(rng), SIZE), make(rng, PAINTED)


def _frame(clip: world.Clip, index: int, rng: np.random.Generator | None, side: int) -> np.ndarray:
    return world.animate(clip, rng, side)[0][index]


def picture_batch(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Scenes, single frames of clips and a few pictures from outside the book, as seen and as they should be painted.

    (count, 3, 64, 64) and (count, 3, 128, 128) of 0..1.
    """
    pairs = []
    for _ in range(count):
        kind, jitter = rng.random(), None if rng.random() < OWN_HAND else rng
        if kind < 0.7:
            pairs.append(seen_and_painted(partial(world.draw, world.random_scene(rng)), jitter))
        elif kind < 0.95:
            clip, index = world.random_clip(rng), int(rng.integers(world.FRAMES))
            pairs.append(seen_and_painted(partial(_frame, clip, index), jitter))
        else:
            pairs.append(seen_and_painted(world.unknown_picture, rng))
    seen, painted = zip(*pairs, strict=True)
    return to_tensor(seen), to_tensor(painted)


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


class Reading(nn.Module):
    """Stage ``image``: pictures to codes and back, at full size and at half, in which later frames are coded."""

    def __init__(self, _folder: Path):
        super().__init__()
        self.image = ImageTokenizer()

    def loss(self, rng: np.random.Generator, count: int) -> Tensor:
        seen, painted = picture_batch(rng, count)
        loss = 0.0
        for given, wanted in ((seen, painted), (F.avg_pool2d(seen, 2), F.avg_pool2d(painted, 2))):
            with precision.autocast():
                made = self.image.render(self.image.latents(given.to(memory_format=torch.channels_last)))
            loss = loss + picture_loss(made, wanted)
        return loss

    @torch.no_grad()
    def evaluate(self) -> float:
        seen, painted = picture_batch(np.random.default_rng(1), 64)
        return psnr(self.image.decode(self.image.encode(seen)), painted)

    def save(self, folder: Path) -> None:
        save_module(self.image, folder / "image.safetensors", int8="decoder")


class Painting(nn.Module):
    """Stage ``decoder``: from the codes of pictures and clips, which stay, to Primer's own hand."""

    def __init__(self, folder: Path):
        super().__init__()
        self.image = load_module(ImageTokenizer(), folder / "image.safetensors")
        self.image.decoder.requires_grad_(True)
        path = folder / "video.safetensors"
        self.video = load_module(VideoTokenizer(), path).requires_grad_(True) if path.exists() else VideoTokenizer()

    def _batch(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents (count, 5, 8, 8) and the pictures that they stand for, (count, 3, 128, 128).

        The first third are first frames of clips, the last third later frames; then the latents of these, as they are
        made from their codes and as the encoder has them, (count / 3, 5, 8, 8) each.
        """
        scenes = [world.random_scene(rng) for _ in range(count - 2 * (count // 3))]
        clips = [(world.random_clip(rng), int(rng.integers(1, world.FRAMES))) for _ in range(count // 3)]
        drawn = []
        for side in (SIZE, PAINTED):
            films = [(world.animate(clip, None, side)[0], index) for clip, index in clips]
            firsts, laters = [film[0] for film, _ in films], [film[index] for film, index in films]
            firsts += [world.draw(scene, None, side) for scene in scenes]
            drawn.append((to_tensor(firsts), to_tensor(laters)))
        (first, later), painted = drawn[0], torch.cat(drawn[1])
        with torch.no_grad():
            start, true = self.image.latents(first), self.image.latents(later)
            small = self.image.latents(F.avg_pool2d(later, 2))
        moved = self.video.frame_latents(start[: len(clips)], small)
        return torch.cat([start, moved]), painted, moved, true

    def loss(self, rng: np.random.Generator, count: int) -> Tensor:
        with precision.autocast():
            latents, painted, moved, true = self._batch(rng, count)
            wrong = torch.rand(len(latents), 1, *latents.shape[2:]) < MISREAD
            latents = torch.where(wrong, latents.roll(1, 0), latents)
            made = self.image.render(latents.to(memory_format=torch.channels_last))
        return picture_loss(made, painted) + 0.1 * F.l1_loss(moved.float(), true)

    @torch.no_grad()
    def evaluate(self) -> float:
        latents, painted, _, _ = self._batch(np.random.default_rng(1), 64)
        return psnr(self.image.render(latents), painted)

    def save(self, folder: Path) -> None:
        save_module(self.image, folder / "image.safetensors", int8="decoder")
        save_module(self.video, folder / "video.safetensors", int8="blocks")


STAGES = {"image": Reading, "decoder": Painting}


def fit(stage: str, folder: Path, minutes: float, count: int) -> None:
    """Train one stage for ``minutes`` of the clock in all, ``count`` pictures a step, and save its tokenisers."""
    torch.manual_seed(0)
    task, rng = STAGES[stage](folder).train(), np.random.default_rng(0)
    task.image.to(memory_format=torch.channels_last)
    optimizer = muon_for(task, lr=PEAK[stage], adam_lr=PEAK[stage] / 10, adam_names=("places", "around"))
    path, step, spent = folder / f"{stage}.checkpoint", 0, 0.0
    if state := load_checkpoint(path):
        task.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, rng = state["step"], state["spent"], np.random.default_rng(state["step"])
    budget, saved = Budget(minutes, spent), spent
    while budget.share < 1:
        set_rate(optimizer, budget.rate())
        loss = task.loss(rng, count)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 100 == 0:
            log.info("%s step %d %.0f%% loss %.4f", stage, step, 100 * budget.share, loss.item())
        if budget.spent - saved > CHECKPOINT_SECONDS or budget.share >= 1:
            saved = budget.spent
            state = {"model": task.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": saved}
            save_checkpoint(path, state)
            task.save(folder)
            log.info("%s step %d PSNR %.2f dB", stage, step, task.evaluate())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and weights")
    parser.add_argument("--minutes", type=float, default=20.0, help="minutes of training in all")
    parser.add_argument("--batch", type=int, default=32, help="pictures a step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    fit(arguments.stage, arguments.out, arguments.minutes, arguments.batch)


if __name__ == "__main__":
    main()
