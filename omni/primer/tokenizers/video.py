"""Clips as one picture and small pictures of what follows: 64 codes for the first frame, 16 for each later one.

A later frame is coded by the picture tokeniser at half size: its codes tell where things are, the first frame tells
what they look like. Only the way back is learnt here. Each frame leans on the first, never on the one before, so
errors cannot add up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.primer.tokenizers.image import GRID, LEVELS, ImageTokenizer

LATER_GRID = GRID // 2  # codes a side of a later frame
LATER_CODES = LATER_GRID**2


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of (B, heads, N, D), every token seeing every other, by plain products.

    In training on a CPU twice as fast in bf16 as the fused kernel, whose backward is slow there.
    """
    with torch.autocast(q.device.type, enabled=False):
        return (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1) @ v


class Block(nn.Module):
    """A pre-norm transformer block over (B, N, C), every token seeing every other."""

    def __init__(self, width: int, heads: int = 6):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.before_attention(x)).view(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, C / heads)
        mixed = attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(mixed)
        return x + self.mlp(self.before_mlp(x))


class VideoTokenizer(nn.Module):
    """Frames (B, T, 3, 64, 64) of 0..1 to codes (B, 64) of the first and (B, T - 1, 16) of the later frames, and back.

    What comes back has twice the side, frame by frame.
    """

    def __init__(self, width: int = 192, depth: int = 3):
        super().__init__()
        self.width, self.depth = width, depth
        channels, cells = len(LEVELS), GRID * GRID
        self.places = nn.Parameter(torch.randn(2, cells, width) * 0.02)  # of the first frame's cells, of this frame's
        self.late_places = nn.Parameter(torch.randn(LATER_CODES, width) * 0.02)
        self.read, self.read_late = nn.Linear(channels, width), nn.Linear(channels, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.latents = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, channels))

    def frame_latents(self, first: Tensor, later: Tensor) -> Tensor:
        """Latents of the first frame (B, 5, 8, 8) and of a small later one (B, 5, 4, 4) to the later's (B, 5, 8, 8)."""
        before = self.read(first.flatten(2).mT)
        small = self.read_late(later.flatten(2).mT)
        grown = self.read_late(F.interpolate(later, scale_factor=2.0).flatten(2).mT)
        x = torch.cat([before + self.places[0], small + self.late_places, grown + self.places[1]], 1)
        for block in self.blocks:
            x = block(x)
        latents = torch.tanh(self.latents(x[:, -GRID * GRID :]))
        return latents.mT.unflatten(2, (GRID, GRID))

    @staticmethod
    def encode(images: ImageTokenizer, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, 3, 64, 64) to codes (B, 64) and (B, T - 1, 16)."""
        batch, count = frames.shape[:2]
        later = images.encode(F.avg_pool2d(frames[:, 1:].flatten(0, 1), 2))
        return images.encode(frames[:, 0]), later.unflatten(0, (batch, count - 1))

    def decode_frame(self, images: ImageTokenizer, first: Tensor, later: Tensor) -> Tensor:
        """First-frame codes (B, 64) and one later frame's codes (B, 16) to its pixels (B, 3, 128, 128)."""
        latents = self.frame_latents(images.grid(first), images.grid(later))
        return images.render(latents).float().clamp(0, 1)
