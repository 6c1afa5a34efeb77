"""RMS norms in one operation where a model spells them out in six: for one token their number is the time.

In 16 bits the one operation rounds once, at its end, where the six round twice. It is torch's, or on a CPU our own,
since torch's is made of a dozen there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.experts import native

FEW = 1 << 16  # numbers up to which our own function, on one thread, is the faster one
TWO_ROUNDINGS = {torch.float32: 2.0**-22, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}  # relative


class OneCallRMSNorm(nn.Module):
    """The norm of ``like``, its weight shared."""

    def __init__(self, like: nn.Module):
        super().__init__()
        self.weight, self.variance_epsilon = like.weight, like.variance_epsilon
        self._exact, self._exact_of = None, 0

    def forward(self, x: Tensor) -> Tensor:
        """(..., N) to the same, normalised over N."""
        library = native.library() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else None
        if library is None or x.numel() > FEW:
            return F.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)
        x = x.contiguous()
        out, width = torch.empty_like(x), len(self.weight)
        library.rms_norm(
            x.numel() // width, width, x.data_ptr(), self.exact().data_ptr(), self.variance_epsilon, out.data_ptr()
        )
        return out

    def exact(self) -> Tensor:
        """The weight in float32, kept for as long as it lies where it lay."""
        if self._exact_of != self.weight.data_ptr():
            self._exact, self._exact_of = self.weight.detach().float(), self.weight.data_ptr()
        return self._exact


@torch.no_grad()
def fuse_norms(model: nn.Module) -> None:
    """Replace every RMS norm of ``model`` for which one call gives the same within rounding; another kind stays."""
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            parent, _, attribute = name.rpartition(".")
            fused = OneCallRMSNorm(module)
            if _near(module, fused):
                setattr(model.get_submodule(parent), attribute, fused)


def _near(one: nn.Module, other: nn.Module) -> bool:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, len(one.weight), generator=generator).to(one.weight.device, one.weight.dtype)
    return torch.allclose(one(x), other(x), rtol=TWO_ROUNDINGS[x.dtype], atol=0)
