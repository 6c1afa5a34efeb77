"""The second stage of Primer's pictures: the same 64 codes to 128 x 128 pixels.

It goes on from what the first stage knows just before it paints 64 x 64 pixels, and from the codes themselves: they
tell which thing of the book it is, and this stage has learnt how that looks at twice the size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.primer.tokenizers.image import LEVELS, ImageTokenizer, PlaceNorm, Residual

SIZE = 128  # pixels
FEATURES_A_CODE = 4  # places of the features for each code, on a side


class DetailDecoder(nn.Module):
    """What the first stage paints, enlarged smoothly, and what that lacks."""

    def __init__(self, width: int = 80, depth: int = 4, features: int = 48):
        """``features``: the channels of ImageTokenizer.features."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(features + len(LEVELS), width, 3, padding=1), *(Residual(width) for _ in range(depth)),
            PlaceNorm(width, eps=1e-6), nn.Conv2d(width, 2 * width, 1), nn.PixelShuffle(2),
            Residual(width // 2), nn.Conv2d(width // 2, 12, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip
        nn.init.zeros_(self.layers[-2].weight)  # it starts as the smooth enlargement
        nn.init.zeros_(self.layers[-2].bias)

    def forward(self, images: ImageTokenizer, latents: Tensor) -> Tensor:
        """Grid points or anything near them, (B, 5, 8, 8), to pixels (B, 3, 128, 128) around 0..1."""
        features = images.features(latents)
        smooth = F.interpolate(images.paint(features).float(), scale_factor=2, mode="bicubic", align_corners=False)
        codes = F.interpolate(latents, scale_factor=FEATURES_A_CODE).to(features.dtype)
        return smooth + 0.5 * self.layers(torch.cat([features, codes], 1))

    def decode(self, images: ImageTokenizer, latents: Tensor) -> Tensor:
        """Grid points (B, 5, 8, 8) to pixels (B, 3, 128, 128) float32 of 0..1."""
        return self(images, latents).float().clamp(0, 1)
