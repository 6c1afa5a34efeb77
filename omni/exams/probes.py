"""The judges of what Primer makes: small networks that were fitted to ground truth alone (``fit_probes.py``).

They share nothing with the tokenisers: batch-normed ResNet and TDNN instead of GroupNorm, transformer and ConvNeXt
blocks, other seeds, and they never see generated media. An Eye finds the things in a picture, a MotionEye names what
moves in a clip, an Ear writes down words. Positions, counts and relations follow from where the Eye finds things; the
background is the colour at the border.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from omni.exams.ear import Ear, Skip
from omni.primer.tokenizers.image import to_tensor
from omni.primer.training import world
from omni.primer.training.world import Scene, Thing

FOLDER = Path(__file__).parent / "probes"
THINGS = (
    *(Thing(name) for name in world.GLYPHS),
    *(Thing(name, colour) for name, colours in world.COLOURED.items() for colour in colours),
)
CELL = 4  # pixels of a cell of the Eye
CERTAIN = 0.5  # a cell of a thing is at least so sure that there is one
MASS = 0.8  # cells, weighted by their sureness, that make a thing
MIDDLE = (26.5, 37.5)  # pixels between which a thing stands in the middle, whatever its size


def _layer(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution, batch-normed and rectified."""
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU())


class Eye(nn.Module):
    """What stands where: pictures (B, 3, 64, 64) of 0..1 to logits (B, 1 + things, 16, 16); class 0 is nothing."""

    def __init__(self, width: int = 96, deep: int = 128):
        super().__init__()
        self.stem = nn.Sequential(_layer(3, width // 2, 2), _layer(width // 2, width, 2))
        skips = (Skip(_layer(deep, deep), _layer(deep, deep)) for _ in range(3))
        self.deep = nn.Sequential(_layer(width, deep, 2), *skips)
        self.up = nn.Conv2d(deep, width, 1)
        self.merge = _layer(2 * width, width)
        self.head = nn.Conv2d(width, 1 + len(THINGS), 1)

    def forward(self, pictures: Tensor) -> Tensor:
        fine = self.stem(pictures * 2 - 1)
        coarse = F.interpolate(self.up(self.deep(fine)), scale_factor=2.0)
        return self.head(self.merge(torch.cat([fine, coarse], 1)))


class MotionEye(nn.Module):
    """What moves: clips (B, 8, 3, 64, 64) of 0..1 to logits (B, 8) over world.MOTIONS."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.layers = nn.Sequential(
            _layer(3 * world.FRAMES, width, 2), _layer(width, width),
            _layer(width, 2 * width, 2), _layer(2 * width, 2 * width),
        )  # fmt: skip
        self.head = nn.Linear(2 * width, len(world.MOTIONS))

    def forward(self, clips: Tensor) -> Tensor:
        small = F.avg_pool2d(clips.flatten(1, 2), 2)
        small = small - small.mean((2, 3), keepdim=True)
        return self.head(self.layers(small).mean((2, 3)))


@dataclass(frozen=True)
class Seen:
    """A thing in a picture and the pixel (row, column) of its middle."""

    thing: Thing
    row: float
    column: float

    @property
    def position(self) -> str:
        """One of the nine positions of the book."""
        cell = tuple(sum(at > edge for edge in MIDDLE) for at in (self.row, self.column))
        return next(name for name, place in world.POSITIONS.items() if place == cell)


@dataclass
class Probes:
    """All probes, loaded from ``folder`` on first use. State: the networks."""

    folder: Path = FOLDER

    @cached_property
    def eye(self) -> Eye:
        return load(Eye(), self.folder / "eye.safetensors")

    @cached_property
    def motion_eye(self) -> MotionEye:
        return load(MotionEye(), self.folder / "motion.safetensors")

    @cached_property
    def ear(self) -> Ear:
        path = self.folder / "ear.safetensors"
        with safe_open(path, "pt") as file:
            language = json.loads(file.metadata()["language"])
        return load(Ear(tuple(language["phonemes"]), language["lexicon"]), path)

    @torch.inference_mode()
    def things(self, picture: np.ndarray) -> list[Seen]:
        """The things in a (64, 64, 3) uint8 picture, from top left to bottom right."""
        return _things(self.eye(to_tensor(picture[None])).softmax(1)[0].numpy())

    def words(self, samples: np.ndarray) -> str:
        """The words in (N,) float32 samples at 16 kHz; "an" is written "a", since it flows into its noun."""
        return self.ear.words(samples)

    @torch.inference_mode()
    def motion(self, frames: np.ndarray) -> str:
        """The motion in (8, 64, 64, 3) uint8 frames."""
        return tuple(world.MOTIONS)[int(self.motion_eye(to_tensor(frames)[None]).argmax())]

    @torch.inference_mode()
    def cast(self, frames: np.ndarray, count: int) -> set[Thing]:
        """The ``count`` things that the frames (8, 64, 64, 3) of a clip show most of."""
        shares = self.eye(to_tensor(frames)).softmax(1)[:, 1:].amax((2, 3)).mean(0)
        return {THINGS[index] for index in shares.topk(count).indices.tolist()}


def load(probe: nn.Module, path: Path) -> nn.Module:
    """A probe with its fp16 weights, ready to judge in float32."""
    with safe_open(path, "pt") as file:
        probe.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
    return probe.eval().requires_grad_(False)


def save(probe: nn.Module, path: Path) -> None:
    """Write fp16 weights, and the phonemes and words of an Ear."""
    state = {name: value.contiguous() for name, value in probe.state_dict().items()}
    state |= {name: value.half() for name, value in state.items() if value.is_floating_point()}
    path.parent.mkdir(parents=True, exist_ok=True)
    language = {name: getattr(probe, name) for name in ("phonemes", "lexicon") if hasattr(probe, name)}
    save_file(state, path, {"language": json.dumps(language)})


def _things(shares: np.ndarray) -> list[Seen]:
    """Shares (1 + things, 16, 16) of each cell to the things that connected cells agree on."""
    present = 1 - shares[0]
    regions, count = ndimage.label(present > CERTAIN)
    seen = []
    for region in range(1, count + 1):
        weight = np.where(regions == region, present, 0.0)
        if weight.sum() < MASS:
            continue
        thing = THINGS[int((shares[1:] * (regions == region)).sum((1, 2)).argmax())]
        row, column = ((np.array(ndimage.center_of_mass(weight)) + 0.5) * CELL).tolist()
        seen.append(Seen(thing, row, column))
    return sorted(seen, key=lambda one: (round(one.row / 16), one.column))


def background(picture: np.ndarray) -> str:
    """The book's background that the border of a (64, 64, 3) picture is nearest to."""
    border = np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3),
                             picture[:, :3].reshape(-1, 3), picture[:, -3:].reshape(-1, 3)])  # fmt: skip
    middle = np.median(border.astype(np.float32), 0)
    return min(world.BACKGROUNDS, key=lambda name: float(np.abs(middle - np.array(world.BACKGROUNDS[name])).sum()))


def scene_of(seen: list[Seen], ground: str) -> Scene | None:
    """The scene that things on a background make, or None where the book has no such scene."""
    if len(seen) == 1:
        return Scene(seen[0].thing, ground, seen[0].position)
    if 2 <= len(seen) <= 4 and len({one.thing for one in seen}) == 1:
        return Scene(seen[0].thing, ground, count=len(seen))
    if len(seen) == 2:
        first, second = seen
        if abs(first.row - second.row) > abs(first.column - second.column):
            first, second = sorted(seen, key=lambda one: one.row)
            return Scene(first.thing, ground, relation="above", other=second.thing)
        first, second = sorted(seen, key=lambda one: one.column)
        return Scene(first.thing, ground, relation="left of", other=second.thing)
    return None
