"""Tiny random models of the true classes, saved as they are published, and what they answer to the same tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeForConditionalGeneration,
)

VOCABULARY = 96
PROMPT, STEPS = 20, 12  # tokens
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1}
ATTENTION = {"head_dim": 32}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 4, 4]}


def qwen3_moe(experts: int = 16, top_k: int = 2) -> nn.Module:
    """Four layers of experts."""
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            **SIZES, **ATTENTION, vocab_size=VOCABULARY, num_hidden_layers=4, num_experts=experts,
            num_experts_per_tok=top_k, moe_intermediate_size=64, decoder_sparse_step=1, mlp_only_layers=[],
        )
    )  # fmt: skip


def qwen3_omni() -> nn.Module:
    """A thinker and a talker whose experts differ in size."""
    layers = {**SIZES, "vocab_size": VOCABULARY, "num_hidden_layers": 2}
    text = {**layers, **ATTENTION, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "rope_parameters": ROPE}
    vision = {**layers, "depth": 1, "num_heads": 2, "out_hidden_size": 64, "deepstack_visual_indexes": [0]}
    audio = {"d_model": 64, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "output_dim": 64}
    wave = {**layers, "decoder_dim": 64, "codebook_size": 64, "upsample_rates": [2], "upsampling_ratios": [2]}
    speaks = {**text, "num_local_experts": 8, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64}
    return Qwen3OmniMoeForConditionalGeneration(
        Qwen3OmniMoeConfig(
            thinker_config={
                "text_config": {**text, "num_experts": 8},
                "vision_config": {**vision, "num_position_embeddings": 16},
                "audio_config": {**audio, "num_mel_bins": 16, "downsample_hidden_size": 16},
                "vision_start_token_id": 1,
            },
            talker_config={
                "text_config": speaks,
                "code_predictor_config": {**layers, **ATTENTION, "num_code_groups": 2},
                "thinker_hidden_size": 64,
                "spatial_merge_size": 2,
            },
            code2wav_config={**wave, "num_key_value_heads": 2, "num_quantizers": 2},
            enable_audio_output=True,
        )
    )


def save(model: nn.Module, folder: Path) -> Path:
    """Draw the weights, routers and experts too, which start at zero or not at all, and write the checkpoint."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1:
                weights.normal_(0, 1.0 if "embed" in name else 1 / math.sqrt(weights.shape[-1]))
    model.bfloat16().save_pretrained(folder)
    return folder


def ids(device: torch.device) -> Tensor:
    """The same tokens every time, (1, PROMPT + STEPS)."""
    return torch.randint(VOCABULARY, (1, PROMPT + STEPS), generator=torch.Generator().manual_seed(1)).to(device)


def logits_of(model: nn.Module, between: Callable[[int], None] = lambda _: None) -> Tensor:
    """A prefill and a step for each further token, (STEPS + 1, vocabulary); ``between`` is called before each step."""
    tokens, cache = ids(model.device), DynamicCache()
    rows = [model(input_ids=tokens[:, :PROMPT], cache=cache).logits[0, -1]]
    for step, token in enumerate(tokens[:, PROMPT:].split(1, 1)):
        between(step)
        rows.append(model(input_ids=token, cache=cache).logits[0, -1])
    return torch.stack(rows)


def spoken(omni: nn.Module) -> Tensor:
    """What the talker of an omni model makes of random embeddings, all at once and one by one."""
    talker, cache = omni.talker.model, DynamicCache()
    heard = torch.randn(1, 12, SIZES["hidden_size"], generator=torch.Generator().manual_seed(2))
    parts = heard.to(omni.device, omni.dtype).split([4] + [1] * 8, 1)
    return torch.cat([talker(inputs_embeds=one, cache=cache).last_hidden_state for one in parts], 1)
