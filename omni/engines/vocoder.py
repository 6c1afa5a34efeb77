"""Codec frames to samples while they come: code2wav of Qwen3-Omni as a stream.

transformers decodes chunks with 25 frames of context: it loses 555 samples at the end of each, and its transformer,
which looks 72 frames back in each of 8 layers, sees less than in one piece. Here the transformer keeps its keys and
values, and the convolutions behind it get as many frames of context as they look back on, so that the joined chunks
are what decoding everything at once gives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import (
    Qwen3OmniMoeCausalConvNet,
    Qwen3OmniMoeCausalTransConvNet,
    Qwen3OmniMoeCode2Wav,
)

RATE = 24_000  # samples a second


class Vocoder:
    """State: the transformer's cache, the last frames behind it (1, hidden, context), frames and samples so far."""

    def __init__(self, code2wav: Qwen3OmniMoeCode2Wav):
        self.code2wav = code2wav
        self.hop = int(code2wav.total_upsample)  # samples a frame
        self.context, self.lag = reach(code2wav)
        self.reset()

    def reset(self) -> None:
        """Begin a new utterance."""
        self.cache = DynamicCache(config=self.code2wav.config)
        self.tail: Tensor | None = None
        self.frames = 0
        self.sent = 0

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """More frames (n, codebooks) int64 to the samples (N,) float32 that they complete."""
        net = self.code2wav
        embedded = net.code_embedding(codes.T[None] + net.code_offset).mean(1)
        hidden = net.pre_transformer(inputs_embeds=embedded, past_key_values=self.cache, use_cache=True)
        hidden = hidden.last_hidden_state.permute(0, 2, 1)
        window = hidden if self.tail is None else torch.cat([self.tail, hidden], dim=2)
        self.frames += len(codes)
        start = (self.frames - window.shape[2]) * self.hop  # of the window's first sample in the utterance
        self.tail = window[..., -self.context :]
        for block in (one for blocks in net.upsample for one in blocks):
            window = block(window)
        for block in net.decoder:
            window = block(window)
        samples = window.clamp(-1, 1)[0, 0, self.sent - start :].float()
        self.sent += len(samples)
        return samples


def reach(code2wav: Qwen3OmniMoeCode2Wav) -> tuple[int, int]:
    """How many frames before a chunk its samples depend on, and how many samples the last frame leaves open.

    A causal convolution looks ``padding`` steps back. A transposed one makes ``stride`` steps of each, looks one step
    ahead, and so leaves the last step open.
    """
    kinds = (Qwen3OmniMoeCausalConvNet, Qwen3OmniMoeCausalTransConvNet)
    layers = [module for module in code2wav.modules() if isinstance(module, kinds)]
    lag = 0
    for layer in layers:
        if isinstance(layer, Qwen3OmniMoeCausalTransConvNet):
            lag = lag * layer.conv.stride[0] + layer.right_pad
    back = lag  # a chunk begins with what the one before left open
    for layer in reversed(layers):
        if isinstance(layer, Qwen3OmniMoeCausalTransConvNet):
            back = math.ceil(back / layer.conv.stride[0])
        else:
            back += layer.padding
    return back, lag
