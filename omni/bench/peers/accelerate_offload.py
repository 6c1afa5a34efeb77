"""accelerate's disk offload: each layer is read from its files, all experts of it in bfloat16, whenever it is run."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from omni.bench.peers.decoder import decoder
from omni.bench.peers.shape import Shape
from omni.bench.peers.steps import timed


def run(
    shape: Shape, checkpoint: str, folder: str, steps: int = 3, warm_up: int = 1, threads: int = 2, zipf: float = 0.0
) -> dict:
    """Decode with the layers of ``checkpoint`` offloaded into ``folder``, the rest in memory: seconds per token."""
    torch.set_num_threads(threads)
    where = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "cpu")
    where |= {f"model.layers.{layer}": "disk" for layer in range(shape.layers)}
    Path(folder).mkdir(parents=True, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.bfloat16, device_map=where, offload_folder=folder
    )
    in_memory = sum(weight.nbytes for weight in model.parameters() if weight.device.type != "meta")
    return {**timed(decoder(model), shape, warm_up, steps, zipf), "weights_in_memory": in_memory}
