"""A transformers model as a function of one token, its cache growing from step to step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers import DynamicCache


def decoder(model: nn.Module, cache: DynamicCache | None = None) -> Callable[[int], float]:
    """One decode step of ``model`` on the CPU for ``omni.bench.peers.steps.timed``; without ``cache`` in its own."""
    cache = DynamicCache(config=model.config) if cache is None else cache
    model.eval()

    @torch.inference_mode()
    def step(token: int) -> float:
        logits = model(input_ids=torch.tensor([[token]]), cache=cache, use_cache=True).logits
        return logits.max().item()

    return step
