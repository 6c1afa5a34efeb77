"""Pictures as codes: an 8 x 8 grid of FSQ codes for 64 x 64 pixels, painted again as 128 x 128.

Convolutions only, so a picture of half the side has a quarter of the codes; the clip tokeniser uses that. Nothing in
the encoder looks at the picture as a whole: a code depends on its own 8 x 8 pixels and the 8 around them, so an empty
ground has the same code wherever nothing is near, and the transformer has little to learn that is not in the picture.
The decoder looks at all of it: many codes together tell which thing it is, and it has learnt how such a thing looks at
twice the side.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.primer.tokenizers.fsq import FSQ

SIZE = 64  # pixels a side of what is seen
PAINTED = 128  # pixels a side of what is made
GRID = 8  # codes a side
LEVELS = (7, 5, 5, 5, 5)  # 4,375 codes


class PlaceNorm(nn.RMSNorm):
    """RMS norm over the channels of each place of (B, C, H, W): no place hears of another, as in GroupNorm it would."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """Two convolutions around a skip, on (B, C, H, W): 3 x 3, or 1 x 1 where ``sides`` says so."""

    def __init__(self, width: int, sides: tuple[int, int] = (3, 3)):
        super().__init__()
        self.norm = PlaceNorm(width, eps=1e-6)
        self.first, self.second = (nn.Conv2d(width, width, side, padding=side // 2) for side in sides)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(self.norm(x))))


class Mixing(nn.Module):
    """Looks 7 x 7 places around, then mixes the channels of each, around a skip (arXiv 2201.03545); (B, C, H, W)."""

    def __init__(self, width: int, expansion: int = 3):
        super().__init__()
        self.around = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = PlaceNorm(width, eps=1e-6)
        self.wide, self.back = nn.Conv2d(width, expansion * width, 1), nn.Conv2d(expansion * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(F.silu(self.wide(self.norm(self.around(x)))))


def _up(width: int, out: int) -> nn.Sequential:
    """Twice the side: a 1 x 1 convolution, its channels laid out as pixels."""
    return nn.Sequential(nn.Conv2d(width, out * 4, 1), nn.PixelShuffle(2))


class ImageTokenizer(nn.Module):
    """Convolutional autoencoder with an FSQ bottleneck, pixels of 0..1: (B, 3, S, S) to (B, (S / 8)^2) codes and back.

    What comes back has twice the side, (B, 3, 2 S, 2 S).
    """

    def __init__(self, width: int = 96):
        super().__init__()
        self.width = width
        self.quantiser = FSQ(LEVELS)
        wide = 2 * width
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, width, 3, padding=1), Residual(width, (3, 1)), Residual(width, (1, 1)),
            nn.Conv2d(width, wide, 2, stride=2), Residual(wide, (1, 1)), Residual(wide, (1, 1)),
            PlaceNorm(wide, eps=1e-6), nn.Conv2d(wide, len(LEVELS), 1),
        )  # fmt: skip
        deep, middle = width * 8 // 3, width * 4 // 3
        self.decoder = nn.Sequential(
            nn.Conv2d(len(LEVELS), deep, 3, padding=1), *(Mixing(deep) for _ in range(5)),
            _up(deep, middle), Residual(middle), Residual(middle),
            _up(middle, width), Residual(width),
            PlaceNorm(width, eps=1e-6), nn.Conv2d(width, 48, 3, padding=1), nn.PixelShuffle(4),
        )  # fmt: skip

    def latents(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) to grid points (B, 5, S / 8, S / 8), with straight-through gradients."""
        z = self.encoder(pixels * 2 - 1)
        return self.quantiser(z.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def render(self, latents: Tensor) -> Tensor:
        """Grid points or anything near them, (B, 5, G, G), to pixels (B, 3, 16 G, 16 G) around 0..1."""
        return self.decoder(latents) * 0.5 + 0.5

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) to codes (B, (S / 8)^2) int64, row by row."""
        return self.quantiser.index(self.latents(pixels).permute(0, 2, 3, 1)).flatten(1)

    def grid(self, codes: Tensor) -> Tensor:
        """Codes (B, G^2) to their grid points (B, 5, G, G)."""
        side = math.isqrt(codes.shape[1])
        return self.quantiser.grid(codes).mT.unflatten(2, (side, side))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, G^2) to pixels (B, 3, 16 G, 16 G) float32 of 0..1."""
        return self.render(self.grid(codes)).float().clamp(0, 1)


def to_tensor(pictures, device: torch.device | str = "cpu") -> Tensor:
    """(B, H, W, 3) uint8 array to (B, 3, H, W) float32 of 0..1."""
    return torch.tensor(np.asarray(pictures), device=device).permute(0, 3, 1, 2).float() / 255


def to_pixels(pictures: Tensor):
    """(B, 3, H, W) float of 0..1 to a (B, H, W, 3) uint8 array."""
    return (pictures.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
