"""Muon for matrices, Adam for the rest, as one optimiser.

Muon steps along the orthogonalised momentum (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): about
half the steps of AdamW in our runs. Stacks of experts are orthogonalised matrix by matrix in one batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omni.primer.training.precision import fastest


@torch.no_grad()
def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix to each of (..., M, N), by Newton-Schulz iteration; bf16 is enough."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(fastest(matrices.device.type))
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon (Nesterov) on matrix parameters; groups with ``adam=True`` take AdamW steps instead."""

    def __init__(self, groups: list[dict], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "adam": False})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                (self._adam if group["adam"] else self._muon)(parameter, group)

    def _muon(self, parameter: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        update = parameter.grad.lerp(state["momentum"], group["momentum"])
        matrix = update if update.dim() <= 3 else update.flatten(1)  # a convolution is a matrix, a stack stays a stack
        rows, columns = matrix.shape[-2:]
        direction = orthogonalise(matrix).view_as(parameter)
        parameter.add_(direction, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _adam(self, parameter: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["step"] += 1
        state["mean"].lerp_(parameter.grad, 0.1)
        state["square"].lerp_(parameter.grad.square(), 0.01)
        mean = state["mean"] / (1 - 0.9 ** state["step"])
        scale = (state["square"] / (1 - 0.99 ** state["step"])).sqrt_().add_(1e-8)
        parameter.addcdiv_(mean, scale, value=-group["lr"])


def muon_for(model: nn.Module, lr: float, adam_lr: float, adam_names: tuple[str, ...] = ()) -> Muon:
    """Muon for every matrix of ``model``; vectors and parameters with a name in ``adam_names`` go to Adam."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.dim() < 2 or any(part in name for part in adam_names)
            (rest if plain else matrices).append(parameter)
    groups = [{"params": matrices, "lr": lr}, {"params": rest, "lr": adam_lr, "adam": True}]
    return Muon([{**group, "peak": group["lr"]} for group in groups if group["params"]])


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Put every group's learning rate at ``share`` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
