"""Products of bf16 on a processor that multiplies none: in float32, rounded to bf16 at their end.

A processor without such products, as most home computers have, takes four or five times as long for one in bf16 as for
one in float32, and with AVX2 alone twenty times for a convolution. The weights stay in bf16; those in use are float32
for as long as that.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache, wraps

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

CONVOLUTIONS = frozenset({F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d})
ROWS = 8192  # of a linear layer that are float32 at once: a head's would take a gigabyte


@cache
def multiplies_bf16() -> bool:
    """Whether this processor has products of bf16 (AVX512-BF16, AMX and their like).

    What oneDNN supports is more than that: with plain AVX512 it pretends, at a quarter of float32's speed.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def product_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """In which floats a model in ``dtype`` multiplies fastest on ``device``."""
    return torch.float32 if dtype is torch.bfloat16 and device.type == "cpu" and not multiplies_bf16() else dtype


def widen(model: nn.Module) -> None:
    """Have the linear layers, convolutions and routers of ``model`` that are in bf16 multiply in float32."""
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dtype is torch.bfloat16 and _multiplies(module):
            module.forward = _widened(module.forward)


def _multiplies(module: nn.Module) -> bool:
    is_router = hasattr(module, "top_k") and module.weight.dim() == 2
    return isinstance(module, (nn.Linear, _ConvNd)) or is_router


def _widened(forward: Callable) -> Callable:
    @wraps(forward)
    def wide(*args, **kwargs):
        with WideProducts():
            return forward(*args, **kwargs)

    return wide


class WideProducts(TorchFunctionMode):
    """Inside, linear layers and convolutions of bf16 tensors are computed in float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        narrow = bool(args) and isinstance(args[0], Tensor) and args[0].dtype is torch.bfloat16
        if narrow and func is F.linear:
            return _linear(*args, **kwargs)
        if narrow and func in CONVOLUTIONS:
            args, kwargs = tree_map(_float, (args, kwargs))
            return func(*args, **kwargs).bfloat16()
        return func(*args, **kwargs)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x = x.float()
    parts = [F.linear(x, rows.float()) for rows in weight.split(ROWS)]
    out = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
    return (out if bias is None else out.add_(bias)).bfloat16()


def _float(one):
    return one.float() if isinstance(one, Tensor) else one
