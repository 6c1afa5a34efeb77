"""Finite scalar quantisation: a code is a point of a small grid (Mentzer et al., arXiv 2309.15505)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FSQ(nn.Module):
    """Rounds each of ``len(levels)`` channels to its own number of levels; there is nothing to learn.

    The code is the grid point's number in mixed radix, the first channel the least significant.
    """

    def __init__(self, levels: tuple[int, ...]):
        super().__init__()
        self.codes = math.prod(levels)
        radix = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("radix", torch.tensor(radix), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Round ``z`` (..., D) to the grid, -1..1 per channel, with straight-through gradients."""
        half = (self.levels - 1) / 2
        bound = torch.tanh(z.float())
        shift = (self.levels % 2 == 0) * 0.5  # an even number of levels has no level at zero
        grid = (bound * half - shift).round() + shift
        return bound + (grid / half - bound).detach()

    def index(self, grid: Tensor) -> Tensor:
        """Grid points (..., D) of -1..1 to codes (...) int64."""
        half = (self.levels - 1) / 2
        return (((grid + 1) * half).round().long() * self.radix).sum(-1)

    def grid(self, codes: Tensor) -> Tensor:
        """Codes (...) int64 to grid points (..., D) float32 of -1..1."""
        digits = codes.unsqueeze(-1) // self.radix % self.levels
        return digits * 2 / (self.levels - 1) - 1
