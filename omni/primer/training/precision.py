"""In which floats a machine trains fastest."""

from __future__ import annotations

import torch

from omni.experts.wide import product_dtype


def fastest(device: str = "cpu") -> torch.dtype:
    """bf16 where the processor or GPU multiplies it, else float32."""
    return product_dtype(torch.device(device), torch.bfloat16)


def autocast(device: str = "cpu") -> torch.autocast:
    """A context in which forward passes are made in the fastest floats."""
    return torch.autocast(device, torch.bfloat16, enabled=fastest(device) is torch.bfloat16)
