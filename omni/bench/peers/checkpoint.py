"""A random Qwen3-MoE checkpoint as it would be published: config.json and bfloat16 shards, one key a matrix and expert.

Written layer by layer, so that memory holds one layer at a time (twice, while it is written).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from omni.bench.peers.shape import LOUDNESS, SEED, Shape, bits, router_scales


def write(shape: Shape, folder: str | Path) -> dict[str, float]:
    """Write config.json, the shards and their index into ``folder``; returns how many gigabytes they are."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(shape), indent=1))
    generator = np.random.default_rng(np.random.SFC64(SEED))
    where, total = {}, 0
    for number, tensors in enumerate(_shards(shape, generator), 1):
        name = f"model-{number:05}-of-{shape.layers + 1:05}.safetensors"
        save_file(tensors, folder / name, metadata={"format": "pt"})
        where |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return {"gigabytes": round(total / 1e9, 3)}


def config(shape: Shape) -> dict:
    """The config.json of this shape."""
    return {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "dtype": "bfloat16",
        "num_hidden_layers": shape.layers, "hidden_size": shape.hidden, "intermediate_size": 3 * shape.hidden,
        "num_experts": shape.experts, "num_experts_per_tok": shape.top_k, "moe_intermediate_size": shape.inner,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim,
        "attention_bias": False, "hidden_act": "silu", "rms_norm_eps": 1e-6, "max_position_embeddings": 4096,
        "rope_theta": 1e6, "tie_word_embeddings": False, "vocab_size": shape.vocabulary, "use_cache": True,
    }  # fmt: skip


def _shards(shape: Shape, generator: np.random.Generator) -> Iterator[dict[str, Tensor]]:
    """The tensors of each shard: one a layer, the last holds the rest."""
    for layer in range(shape.layers):
        yield {f"model.layers.{layer}.{key}": one for key, one in _layer(shape, layer, generator).items()}
    yield {
        "model.embed_tokens.weight": _matrix(generator, shape.vocabulary, shape.hidden) * LOUDNESS,
        "model.norm.weight": torch.ones(shape.hidden, dtype=torch.bfloat16),
        "lm_head.weight": _matrix(generator, shape.vocabulary, shape.hidden),
    }


def _layer(shape: Shape, layer: int, generator: np.random.Generator) -> dict[str, Tensor]:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    scales = torch.from_numpy(router_scales(shape, layer))[:, None]
    tensors = {
        "self_attn.q_proj.weight": _matrix(generator, queries, shape.hidden),
        "self_attn.k_proj.weight": _matrix(generator, keys, shape.hidden),
        "self_attn.v_proj.weight": _matrix(generator, keys, shape.hidden),
        "self_attn.o_proj.weight": _matrix(generator, shape.hidden, queries),
        "mlp.gate.weight": (_matrix(generator, shape.experts, shape.hidden) * scales).bfloat16(),
    }
    for name, size in (("input_layernorm", shape.hidden), ("post_attention_layernorm", shape.hidden)):
        tensors[f"{name}.weight"] = torch.ones(size, dtype=torch.bfloat16)
    for name in ("q_norm", "k_norm"):
        tensors[f"self_attn.{name}.weight"] = torch.ones(shape.head_dim, dtype=torch.bfloat16)
    for expert in range(shape.experts):
        for name in ("gate_proj", "up_proj"):
            tensors[f"mlp.experts.{expert}.{name}.weight"] = _matrix(generator, shape.inner, shape.hidden)
        tensors[f"mlp.experts.{expert}.down_proj.weight"] = _matrix(generator, shape.hidden, shape.inner)
    return tensors


def _matrix(generator: np.random.Generator, rows: int, columns: int) -> Tensor:
    """(rows, columns) bfloat16 of either sign, 2 ** -7 to 2 ** -5 large: made of random bits, 0.02 on average."""
    numbers = bits(generator, 2 * rows * columns).view(np.uint16)
    numbers &= 0x80FF  # sign, lowest bit of the exponent, mantissa
    numbers |= 0x3C00  # the rest of the exponent
    return torch.from_numpy(numbers).view(torch.bfloat16).view(rows, columns)
