"""A Qwen3-Omni of a published size with random weights on disk: what a download and its conversion would leave.

The dense part is a safetensors checkpoint, the experts are written straight into their slab: random 4-bit numbers under
maxima that give the weights the spread of a fresh layer. The experts never were floats, so 18 GB stand for 65.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedConfig

from omni.experts import loading
from omni.experts.conversion import INDEX, identity_of
from omni.experts.kernels import best_kernel
from omni.experts.nf4 import LEVELS
from omni.experts.record import ExpertShape
from omni.experts.slab import Pool
from omni.experts.slab_writer import SlabWriter

SHARD_BYTES = 2 * 10**9
SPREAD = math.sqrt(sum(level**2 for level in LEVELS) / len(LEVELS))  # of a block of random levels, its maximum 1


def write(config: PreTrainedConfig, folder: Path) -> None:
    """Write the checkpoint of ``config`` into ``folder``, its slab beside it, where ``loading.load_model`` looks."""
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    model = loading.skeleton(config)
    pools = loading.pools_of(model)
    loading.take_out_experts(model)
    generator, where = torch.Generator().manual_seed(0), {}
    for number, shard in enumerate(_shards(model.state_dict(), generator)):
        name = f"model-{number:05}.safetensors"
        save_file(shard, folder / name, {"format": "pt"})
        where |= dict.fromkeys(shard, name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    layout = best_kernel([pool.shape for pool in pools], torch.device("cpu"), torch.bfloat16).layout
    identity = identity_of(folder)
    with SlabWriter(folder / f"experts-{identity[:16]}-{layout}.slab", identity, layout, pools) as slab:
        _fill(slab, pools)


def _shards(parameters: dict[str, Tensor], generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """Random tensors of those names and shapes in bf16, about SHARD_BYTES at a time."""
    shard, held = {}, 0
    for name, one in parameters.items():
        shard[name] = _drawn(name, one.shape, generator)
        held += shard[name].nbytes
        if held > SHARD_BYTES:
            yield shard
            shard, held = {}, 0
    yield shard


def _drawn(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Weights of a fresh layer: what normalises starts at one, what is added at zero."""
    if len(shape) < 2:
        return torch.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype=torch.bfloat16)
    spread = 1.0 if "embed" in name else math.prod(shape[1:]) ** -0.5
    drawn = torch.empty(shape, dtype=torch.bfloat16)
    return drawn.normal_(0, spread, generator=generator)


def _fill(slab: SlabWriter, pools: tuple[Pool, ...]) -> None:
    """Write every record: other bytes in each, the maxima alike."""
    random = np.random.Generator(np.random.SFC64(0))
    for pool, layer, expert in slab.missing():
        slab.put(pool, layer, expert, _record(pools[pool].shape, random))
    slab.finish()


def _record(shape: ExpertShape, random: np.random.Generator) -> Tensor:
    held = torch.from_numpy(random.integers(0, 2**64, shape.record_bytes // 8, dtype=np.uint64).view(np.uint8))
    for matrix in shape.matrices:
        matrix.absmax(held).fill_(matrix.columns**-0.5 / SPREAD)
    held[shape.used_bytes :] = 0
    return held
