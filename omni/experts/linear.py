"""Linear layers in 4 bits, over the experts' kernels: on a CPU, what a token reads decides how long it takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omni.experts import nf4, record
from omni.experts.kernels import Kernel
from omni.experts.memory import MappedFiles
from omni.experts.record import LoneMatrix

SKIPPED = ("gate", "router", "shared_expert_gate", "codec_head")  # what decides, and what is hardly read
TOWERS = ("visual", "audio_tower", "code2wav", "vision_tower")  # encoders and decoders run once, not for each token


class FourBitLinear(nn.Module):
    """y = x W^T + b with W in NF4. State: the slot that holds W as the kernel wants it, and the bias."""

    def __init__(self, linear: nn.Linear, kernel: Kernel):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.kernel, self.shape = kernel, LoneMatrix(linear.out_features, linear.in_features)
        weight = linear.weight.detach()
        held = torch.zeros(self.shape.record_bytes, dtype=torch.uint8, device=weight.device)
        [matrix] = self.shape.matrices
        record.put(held, matrix, *nf4.quantise(weight), kernel.layout)
        slot = held
        if kernel.slot_bytes(self.shape) != self.shape.record_bytes:
            slot = torch.empty(kernel.slot_bytes(self.shape), dtype=torch.uint8, device=weight.device)
        kernel.settle(held, slot, self.shape)
        self.register_buffer("slot", slot, persistent=False)
        self.bias = linear.bias
        self._operand: object = None

    @property
    def operand(self):
        """The matrix as the kernel takes it."""
        if self._operand is None or self._operand_of != self.slot.data_ptr():  # it was moved
            [self._operand] = self.kernel.prepare(self.slot, self.shape)
            self._operand_of = self.slot.data_ptr()
        return self._operand

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features), in the dtype of ``x``."""
        flat = x.reshape(-1, self.in_features).to(self.kernel.dtype).contiguous()
        out = self.kernel.apply(flat, self.operand)
        if self.bias is not None:
            out += self.bias
        return out.view(*x.shape[:-1], self.out_features).to(x.dtype)


def pack_linears(model: nn.Module, kernel: Kernel) -> None:
    """Put every linear layer of ``model`` that is read for each token into 4 bits, one after the other."""
    files = MappedFiles()
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear or not worth_packing(name, module, kernel) or f"{name}.weight" in tied:
            continue
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, FourBitLinear(module, kernel))
        files.give_back(module.weight)


def worth_packing(name: str, linear: nn.Linear, kernel: Kernel) -> bool:
    """Whether a linear layer is read for each token, and can be held by ``kernel``."""
    parts = name.split(".")
    if parts[-1] in SKIPPED or any(part in TOWERS for part in parts) or linear.in_features % nf4.BLOCK:
        return False
    return kernel.layout == "rows" or linear.out_features % record.TILE == 0
