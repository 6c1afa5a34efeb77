"""bitsandbytes as it comes: 4-bit loading, which leaves fused experts in bfloat16, and its way to 4-bit parameters.

The second one, ``replace_parameter_4bit``, makes a layer's whole stack of experts bfloat16 again in every forward pass.
"""

from __future__ import annotations

import gc

import torch
from bitsandbytes.nn.parametrize import replace_parameter_4bit
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from omni.bench.peers.decoder import decoder
from omni.bench.peers.shape import Shape
from omni.bench.peers.steps import timed

SKIPPED = ["lm_head"]  # given, because the default list is not reliable with several heads; the router is no nn.Linear


def run(
    shape: Shape, checkpoint: str, parametrize: bool = False, steps: int = 10, warm_up: int = 3, threads: int = 2,
    zipf: float = 0.0,
) -> dict:  # fmt: skip
    """Decode with ``checkpoint`` in NF4, with ``parametrize`` its experts too: seconds per token, bytes of weights."""
    torch.set_num_threads(threads)
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=SKIPPED,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.bfloat16, device_map={"": "cpu"}, quantization_config=four_bits
    )
    if parametrize:
        for name, module in model.named_modules():
            if name.endswith(".mlp.experts"):
                for parameter in ("gate_up_proj", "down_proj"):
                    replace_parameter_4bit(module, parameter, quant_type="nf4")
                gc.collect()
    return {**timed(decoder(model), shape, warm_up, steps, zipf), **weights(model)}


def weights(model: nn.Module) -> dict[str, int | list[str]]:
    """Bytes of the experts' weights with their block maxima, bytes of the others, and the experts' dtypes."""
    held, dtypes = {"experts_bytes": 0, "dense_bytes": 0}, set()
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        experts = ".mlp.experts." in name
        held["experts_bytes" if experts else "dense_bytes"] += weight.nbytes
        dtypes |= {str(weight.dtype).removeprefix("torch.")} if experts else set()
    for name, module in model.named_modules():
        if state := getattr(module, "quant_state", None):  # block maxima are neither parameters nor buffers
            key = "experts_bytes" if ".mlp.experts." in name else "dense_bytes"
            held[key] += state.absmax.nbytes
    return {**held, "experts_dtypes": sorted(dtypes)}
