"""One token through the transformer in as few operations as can be: what decoding does hundreds of times a second.

For one token of a small model what lies between the products takes longer than the products. So the residual is a
vector, sums and scales are part of the products (BLAS's alpha and beta), results go where they are needed next, and a
router's eight numbers are weighed in Python. What comes out equals ``PrimerModel.forward`` within rounding.
"""

from __future__ import annotations

import math
from operator import add

import torch
from torch import Tensor
from torch.nn import functional as F

from omni.primer.modeling import MLP, Attention, DecoderLayer, KeyValueCache, MoE, PrimerModel, RMSNorm, rotary_axes


class Stepper:
    """A model that goes on from what is in ``cache``, of one row, token by token.

    State: the cache, and buffers that every step writes anew.
    """

    @torch.inference_mode()
    def __init__(self, model: PrimerModel, cache: KeyValueCache):
        self.cache, self.table = cache, model.embed_tokens.weight
        config, device = model.config, self.table.device
        axes, frequencies = rotary_axes(config.head_dim // 2, config.rope_theta, device)
        self.frequencies = F.one_hot(axes, 3) * frequencies[:, None]  # (D / 2, 3): what a position turns each pair by
        turns = torch.stack([_head_weights(layer.attention) for layer in model.layers])
        self.turns, self.crossed = turns, turns.roll(config.head_dim // 2, 2)
        self.attentions = [_Attention(layer.attention_norm, layer.attention) for layer in model.layers]
        self.mlps = [_mlp(layer) for layer in model.layers]
        self.mixtures = [mlp for mlp in self.mlps if isinstance(mlp, _MoE)]
        self.norm = model.norm

    def __call__(self, token: int, position: tuple[float, float, float]) -> Tensor:
        """The next token and its position (time, row, column) to its hidden state (H,). Raises IndexError when full."""
        self.cache.require(1)
        angles = torch.mv(self.frequencies, torch.tensor(position, device=self.table.device))
        cosine, sine = angles.cos(), angles.sin()
        straight = (self.turns * torch.cat([cosine, cosine])).unbind()
        across = (self.crossed * torch.cat([-sine, sine])).unbind()
        now, end = self.cache.length, self.cache.length + 1
        places = self.cache.stored[:, :, 0, :, now].unbind()  # (2, kv heads, D) each
        keys, values = (side[:, :, :, :end].unbind() for side in self.cache.stored.unbind(1))
        x = self.table[token]
        for layer, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            x = attention(x, straight[layer], across[layer], places[layer], keys[layer], values[layer])
            x = mlp(x)
        self.cache.length = end
        return (x * self.norm.weight).mul_(_scale(x, self.norm.eps))

    @property
    def chosen(self) -> list[list[int]]:
        """The experts that the last token went to, by MoE layer, the likeliest first."""
        return [mixture.chosen for mixture in self.mixtures]


def _scale(x: Tensor, eps: float) -> float:
    """What RMS norm multiplies (N,) by, beside its weight."""
    return 1 / math.sqrt(float(torch.dot(x, x)) / len(x) + eps)


def _head_weights(attention: Attention) -> Tensor:
    """What multiplies a head of unit length: norm's weight and scale, and for queries attention's own; (heads, D)."""
    queries = attention.query_norm.weight.expand(attention.heads, -1)
    keys = attention.key_norm.weight.expand(attention.kv_heads, -1) * attention.head_dim**0.5
    return torch.cat([queries, keys])  # for queries the two scales cancel out


def _into(matrix: Tensor, x: Tensor, scale: float, out: Tensor) -> None:
    """``out`` = scale * matrix @ x."""
    torch.addmv(out, matrix, x, beta=0, alpha=scale, out=out)


class _Attention:
    """Norm, attention and residual of one layer. State: the buffer of queries, keys and values."""

    def __init__(self, norm: RMSNorm, attention: Attention):
        self.weight, self.eps = norm.weight, norm.eps
        self.qkv, self.out = attention.qkv.weight, attention.out.weight
        heads, kv_heads, size = attention.heads, attention.kv_heads, attention.head_dim
        self.made = self.qkv.new_zeros(len(self.qkv))
        rows = self.made.view(-1, size)
        self.turned = rows[: heads + kv_heads]
        self.queries = rows[:heads].view(1, kv_heads, heads // kv_heads, size)
        self.stored = rows[heads:].view(2, kv_heads, size)
        self.half = size // 2

    def __call__(self, x: Tensor, straight: Tensor, across: Tensor, place: Tensor, keys: Tensor, values: Tensor):
        _into(self.qkv, x * self.weight, _scale(x, self.eps), self.made)
        unit = self.turned / torch.linalg.vector_norm(self.turned, dim=1, keepdim=True)
        torch.addcmul(unit * straight, unit.roll(self.half, 1), across, out=self.turned)
        place.copy_(self.stored)
        mixed = F.scaled_dot_product_attention(self.queries, keys, values, scale=1.0)
        return torch.addmv(x, self.out, mixed.view(-1))


def _mlp(layer: DecoderLayer) -> _MLP | _MoE:
    if isinstance(layer.mlp, MLP):
        return _MLP(layer.mlp_norm, layer.mlp)
    return _MoE(layer.mlp_norm, layer.mlp)


class _MLP:
    """Norm, dense MLP and residual of one layer. State: the buffer of gate and up."""

    def __init__(self, norm: RMSNorm, mlp: MLP):
        self.weight, self.eps = norm.weight, norm.eps
        self.gate_up, self.down = mlp.gate_up.weight, mlp.down.weight
        self.raised = self.gate_up.new_zeros(len(self.gate_up))
        self.gate, self.up = self.raised.chunk(2)

    def __call__(self, x: Tensor) -> Tensor:
        _into(self.gate_up, x * self.weight, _scale(x, self.eps), self.raised)
        return torch.addmv(x, self.down, F.silu(self.gate).mul_(self.up))


class _MoE:
    """Norm, router, experts and residual of one layer.

    State: the buffers of gate and up, and of what is gated; the experts that were chosen last.
    """

    def __init__(self, norm: RMSNorm, moe: MoE):
        self.weight, self.eps = norm.weight, norm.eps
        self.router, self.balance, self.top_k = moe.gate.weight, moe.gate.balance.tolist(), moe.gate.top_k
        self.experts, self.here = moe.experts, hasattr(moe.experts, "down_proj")
        self.chosen: list[int] = []
        count = 1
        if self.here:
            self.gate_ups, self.downs = moe.experts.gate_up_proj.unbind(), moe.experts.down_proj.unbind()
            count += self.top_k
        self.shared_gate_up, self.shared_down = moe.shared.gate_up.weight, moe.shared.down.weight
        raised = self.shared_gate_up.new_zeros(count, len(self.shared_gate_up))
        gated = raised.new_zeros(count, raised.shape[1] // 2)
        self.raised, self.gated = raised.unbind(), gated.unbind()
        self.gate, self.up, self.all_gated = *raised.chunk(2, 1), gated

    def __call__(self, x: Tensor) -> Tensor:
        h, scale = x * self.weight, _scale(x, self.eps)
        chosen, shares = self.choose(torch.mv(self.router, h).tolist(), scale)
        self.chosen = chosen
        _into(self.shared_gate_up, h, scale, self.raised[-1])
        if self.here:
            for expert, out in zip(chosen, self.raised[:-1], strict=True):
                _into(self.gate_ups[expert], h, scale, out)
        torch.mul(F.silu(self.gate), self.up, out=self.all_gated)
        if self.here:
            for expert, share, gated in zip(chosen, shares, self.gated[:-1], strict=True):
                x = torch.addmv(x, self.downs[expert], gated, alpha=share)
        else:
            x = x + self.experts(h.mul_(scale)[None], torch.tensor([chosen]), torch.tensor([shares]))[0]
        return torch.addmv(x, self.shared_down, self.gated[-1])

    def choose(self, logits: list[float], scale: float) -> tuple[list[int], list[float]]:
        """The chosen experts and their shares, as ``Router`` has them, from its logits over ``scale``."""
        scores = [1 / (1 + math.exp(-scale * logit)) for logit in logits]
        ranks = list(map(add, scores, self.balance))
        chosen = sorted(range(len(ranks)), key=ranks.__getitem__)[: -self.top_k - 1 : -1]
        total = sum([scores[expert] for expert in chosen])
        return chosen, [scores[expert] / total for expert in chosen]
