"""NF4: four bits a weight on a grid made for normal weights, one scale a block (QLoRA, arXiv 2305.14314).

The same bytes as ``bitsandbytes.functional.quantize_4bit(..., quant_type="nf4", blocksize=64)``, in plain torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64  # weights that share a scale
LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def quantise(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of any shape, their number a multiple of 64, to bytes (N / 2,) uint8 and block maxima (N / 64,) float32.

    Two neighbours share a byte, the first in the high half. Raises ValueError where the number does not fit.
    """
    if weights.numel() % BLOCK:
        raise ValueError(f"{weights.numel()} weights are not a multiple of {BLOCK}")
    blocks = weights.detach().float().reshape(-1, BLOCK)
    absmax = blocks.abs().amax(1)
    scaled = blocks / absmax.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    levels = torch.tensor(LEVELS, device=weights.device)
    nearest = torch.bucketize(scaled, (levels[1:] + levels[:-1]) / 2).to(torch.uint8).view(-1, 2)
    return nearest[:, 0] << 4 | nearest[:, 1], absmax


def dequantise(packed: Tensor, absmax: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """The weights that ``quantise`` wrote, as ``dtype`` in ``shape``."""
    levels = torch.tensor(LEVELS, device=packed.device)
    halves = torch.stack([packed >> 4, packed & 15], 1).long()
    return (levels[halves].view(-1, BLOCK) * absmax.float()[:, None]).view(shape).to(dtype)
