"""NF4: four bits a weight on a grid made for normal weights, one scale a block (QLoRA, arXiv 2305.14314).

The same bytes as ``bitsandbytes.functional.quantize_4bit(..., quant_type="nf4", blocksize=64)``, in plain torch: scales
by the reciprocal of the block's maximum, and halfway between two levels takes the lower one, as its kernels do.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

BLOCK = 64  # weights that share a scale
LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip

SMALLEST = 1e-38  # what bitsandbytes divides by where a block is all zeros
CELLS = 16  # of width 1/16 on either side of zero: no two midpoints fall into one
CHUNK = 2048  # blocks at once on a CPU, so that what lies between the steps stays in the processor's cache
GPU_CHUNK = 1 << 18  # blocks at once on a GPU: 0.3 GB for what is between, whatever the size of the matrix


def quantise(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of any shape, their number a multiple of 64, to bytes (N / 2,) uint8 and block maxima (N / 64,) float32.

    Two neighbours share a byte, the first in the high half. Raises ValueError where the number does not fit, or where
    a weight is not finite.
    """
    if weights.numel() % BLOCK:
        raise ValueError(f"{weights.numel()} weights are not a multiple of {BLOCK}")
    blocks = weights.detach().reshape(-1, BLOCK)
    absmax = torch.empty(len(blocks), device=weights.device)
    packed = torch.empty(len(blocks), BLOCK // 2, dtype=torch.uint8, device=weights.device)
    step = CHUNK if weights.device.type == "cpu" else GPU_CHUNK
    for some, maxima, halves in zip(blocks.split(step), absmax.split(step), packed.split(step), strict=True):
        some = some.float()
        torch.amax(some.abs(), 1, out=maxima)
        if not maxima.isfinite().all():
            raise ValueError("there are weights that are not finite")
        halves.copy_(_pack(_nearest(some * maxima.clamp_min(SMALLEST).reciprocal()[:, None])))
    return packed.flatten(), absmax


def _nearest(scaled: Tensor) -> Tensor:
    """The level next to each of (blocks, 64) float32 in -1..1, as 0..15 uint8.

    Finds the cell of a number, then compares with the one midpoint that the cell may hold: several times faster than
    ``torch.bucketize``, and as exact, since a number's cell never falls when the number grows.
    """
    below, midpoint = _cells(scaled.device)
    flat = scaled.flatten()
    cell = _cell(flat)
    above = torch.gt(flat, midpoint.index_select(0, cell), out=torch.empty_like(flat))
    return below.index_select(0, cell).add_(above).to(torch.uint8).view_as(scaled)


def _cell(scaled: Tensor) -> Tensor:
    return (scaled * CELLS).add_(CELLS).int()  # two steps, so that no fused one rounds differently somewhere


@cache
def _cells(device: torch.device) -> tuple[Tensor, Tensor]:
    """For each cell how many midpoints lie in the cells below it, and the midpoint in it or infinity; float32."""
    levels = torch.tensor(LEVELS, device=device)
    midpoints = (levels[1:] + levels[:-1]) / 2
    holds = _cell(midpoints)
    cells = torch.arange(2 * CELLS + 1, device=device)  # the last one for 1 itself
    below = (holds[None] < cells[:, None]).sum(1).float()
    return below, torch.full_like(below, torch.inf).index_copy_(0, holds.long(), midpoints)


def _pack(nearest: Tensor) -> Tensor:
    """Levels (blocks, 64) uint8 to bytes (blocks, 32), by way of 16-bit numbers that hold the first level lowest."""
    pairs = nearest.view(torch.int16)
    return (pairs << 4 | pairs >> 8).to(torch.uint8)


def dequantise(packed: Tensor, absmax: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """The weights that ``quantise`` wrote, as ``dtype`` in ``shape``."""
    pairs = _pairs(packed.device).index_select(0, packed.flatten().int())
    return (pairs.view(torch.float32).view(-1, BLOCK) * absmax.float()[:, None]).view(shape).to(dtype)


@cache
def _pairs(device: torch.device) -> Tensor:
    """The two levels of each byte, (256,): two float32 in the guise of one int64, so that one look-up finds both."""
    levels = torch.tensor(LEVELS, device=device)
    return torch.cartesian_prod(levels, levels).view(torch.int64).flatten()
