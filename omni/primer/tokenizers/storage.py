"""Tokenisers on disk: safetensors, fp16, and int8 with a scale for each output channel where nothing is decided.

Encoders stay in fp16: what they round to would change a code, and the transformer knows the codes as they are.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

SCALE = ".scale"


def save_module(module: nn.Module, path: Path, int8: str = "") -> None:
    """Write the weights of ``module``; matrices whose name begins with ``int8`` are stored in 8 bits."""
    stored: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        if int8 and name.startswith(int8) and value.dim() > 1:
            scale = value.float().flatten(1).abs().amax(1).clamp_min(1e-12) / 127
            stored[name] = (value.float() / _beside(scale, value)).round().to(torch.int8)
            stored[name + SCALE] = scale
        else:
            stored[name] = value.half()
    save_file({name: value.contiguous() for name, value in stored.items()}, path)


def load_module(module: nn.Module, path: Path) -> nn.Module:
    """``module`` with the weights in ``path``, ready to run in float32."""
    stored = load_file(path)
    state = {name: value.float() for name, value in stored.items() if not name.endswith(SCALE)}
    for name in state:
        if (scale := stored.get(name + SCALE)) is not None:
            state[name] *= _beside(scale, state[name])
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def _beside(scale: Tensor, value: Tensor) -> Tensor:
    """A scale for each output channel, shaped to be multiplied with ``value``."""
    return scale.view(-1, *[1] * (value.dim() - 1))
