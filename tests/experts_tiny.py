"""Tiny mixture-of-experts models of the true classes with random weights, saved as transformers saves them."""

from __future__ import annotations

from pathlib import Path

import omni_tiny
import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from omni.primer.configuration import SIZES, PrimerConfig
from omni.primer.modeling import PrimerForCausalLM

SIZE = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 3}
TOKENS = {"vocab_size": 128, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "head_dim": 32}
TINY = {**SIZE, **TOKENS, "intermediate_size": 64}


def qwen3_moe(top_k: int = 2, experts: int = 8) -> PreTrainedModel:
    many = {**EXPERTS, "num_experts": experts, "num_experts_per_tok": top_k}
    return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**TINY, **many))


def olmoe() -> PreTrainedModel:
    return transformers.OlmoeForCausalLM(transformers.OlmoeConfig(**TINY, num_experts=8, num_experts_per_tok=2))


def mixtral() -> PreTrainedModel:
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**TINY, num_local_experts=8))


def qwen3_5_moe() -> PreTrainedModel:
    layers = {"shared_expert_intermediate_size": 64, "layer_types": ["linear_attention", *["full_attention"] * 2]}
    return transformers.Qwen3_5MoeForCausalLM(transformers.Qwen3_5MoeTextConfig(**TINY, **EXPERTS, **layers))


def primer() -> PreTrainedModel:
    return PrimerForCausalLM(PrimerConfig(**{**SIZES["tiny"], "num_hidden_layers": 4, "num_experts": 8}))


MODELS = {
    "qwen3_moe": qwen3_moe,
    "qwen3_moe_top8": lambda: qwen3_moe(8, 16),
    "olmoe": olmoe,
    "mixtral": mixtral,
    "qwen3_5_moe": qwen3_5_moe,
    "primer": primer,
}


def save(name: str, folder: Path) -> Path:
    """Write the checkpoint of one of MODELS, or of ``qwen3_omni``, into ``folder``, in bf16, its routers drawn too."""
    if name == "qwen3_omni":
        return omni_tiny.save_tiny(folder)
    torch.manual_seed(17)
    model = MODELS[name]()
    for weights in (weights for weights in model.parameters() if weights.dim() > 1):
        nn.init.normal_(weights, std=weights.shape[-1] ** -0.5)
    model.bfloat16().save_pretrained(folder)
    return folder
