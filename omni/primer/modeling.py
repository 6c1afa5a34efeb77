"""The transformer of Primer: one decoder for tokens of every modality, a mixture of experts from the second layer on.

Differs from the usual decoder in three ways: positions have three axes (time, row, column), so that a picture's codes
know their neighbours; the router scores with a sigmoid and is balanced by a bias that no gradient touches
(arXiv 2408.15664); logits are computed for one modality at a time, since the grammar always knows which comes next.
Knows nothing of tokenisers or of what the ids mean.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.integrations.moe import use_experts_implementation
from transformers.utils import ModelOutput

from omni.primer.configuration import PrimerConfig

GROUP = 64  # in training an expert's tokens are filled up to a multiple: oneDNN compiles a kernel for every new size


class Routing(NamedTuple):
    """Where the tokens of one layer went: scores (N, E) float32 of 0..1, logits (N, E), chosen experts (N, k)."""

    scores: Tensor
    logits: Tensor
    chosen: Tensor


@dataclass
class PrimerOutput(ModelOutput):
    """Hidden states (B, L, H), logits over the whole vocabulary where asked for, and the routing by MoE layer."""

    logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    routing: tuple[Routing, ...] | None = None


class KeyValueCache:
    """Keys and values of all layers, (layers, 2, B, kv heads, capacity, head dim), written in place.

    State: ``length``, the number of positions filled.
    """

    def __init__(self, config: PrimerConfig, batch: int, capacity: int, like: Tensor):
        layers, heads = config.num_hidden_layers, config.num_key_value_heads
        self.stored = like.new_zeros(layers, 2, batch, heads, capacity, config.head_dim)
        self.length = 0

    @property
    def capacity(self) -> int:
        return self.stored.shape[4]

    def require(self, added: int) -> None:
        """Raises IndexError where there is no room for ``added`` more positions."""
        if self.length + added > self.capacity:
            raise IndexError(f"the cache holds {self.capacity} positions, {self.length + added} were asked for")

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, kv heads, L, D) after the filled part; all keys and values so far."""
        end = self.length + keys.shape[2]
        for side, added in zip(self.stored[layer], (keys, values), strict=True):
            side[:, :, self.length : end] = added
        return self.stored[layer, 0, :, :, :end], self.stored[layer, 1, :, :, :end]

    def mask(self, added: int) -> Tensor:
        """What ``added`` new positions may see: (added, total) bool."""
        seen = torch.ones(added, self.length + added, dtype=torch.bool, device=self.stored.device)
        return seen.tril(self.length)


class RMSNorm(nn.RMSNorm):
    """torch's RMS norm in the dtype of its input, which keeps it fused under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


@cache
def rotary_axes(pairs: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each rotary pair the axis of the position that turns it, (pairs,) int64, and its frequency, (pairs,)."""
    with torch.inference_mode(False):
        index = torch.arange(pairs, device=device)
        return index % 3, theta ** (-index.float() / pairs)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding of (B, heads, L, D) by angles (B, 1, L, D / 2)."""
    first, second = x.chunk(2, -1)
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of (B, heads, L, D) over (B, kv heads, L, D).

    On a CPU by plain products, one matrix for all queries of a key's head: in bf16 the fused kernel's backward takes
    up to five times as long there.
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    length, size = q.shape[2:]
    keys, values = k.flatten(0, 1), v.flatten(0, 1)
    queries = q.reshape(len(keys), -1, size)
    later = q.new_full((length, length), -torch.inf).triu(1).repeat(queries.shape[1] // length, 1)
    with torch.autocast("cpu", enabled=False):  # it would have the softmax written in float32
        scores = torch.baddbmm(later, queries, keys.mT, alpha=size**-0.5)
        return (scores.softmax(-1) @ values).view_as(q)


class Attention(nn.Module):
    """Grouped-query attention with normalised queries and keys."""

    def __init__(self, config: PrimerConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self.qkv = nn.Linear(config.hidden_size, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=False)
        self.out = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=False)
        self.query_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
        self.key_norm = RMSNorm(self.head_dim, config.rms_norm_eps)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], cache: KeyValueCache | None, mask: Tensor | None
    ) -> Tensor:
        batch, length, _ = x.shape
        split = [self.heads, self.kv_heads, self.kv_heads]
        q, k, v = self.qkv(x).view(batch, length, -1, self.head_dim).transpose(1, 2).split(split, 1)
        turned = rotate(torch.cat([self.query_norm(q), self.key_norm(k)], 1), *angles)
        q, k = turned.split(split[:2], 1)
        if cache is None:
            mixed = causal_attention(q, k, v)
        else:
            k, v = cache.append(self.layer, k, v)
            mixed = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    """SwiGLU, gate and up in one matrix: the dense first layer and the expert that all tokens share."""

    def __init__(self, hidden: int, inner: int):
        super().__init__()
        self.gate_up = nn.Linear(hidden, 2 * inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


@use_experts_implementation
class PrimerExperts(nn.Module):
    """The routed experts of one layer in two parameters, laid out as transformers lays out fused experts."""

    def __init__(self, config: PrimerConfig):
        super().__init__()
        self.num_experts = config.num_experts
        hidden, inner = config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(self.num_experts, 2 * inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(self.num_experts, hidden, inner))
        self.act_fn = nn.SiLU()

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Tokens (N, H), their experts (N, k) and the experts' weights (N, k) to (N, H)."""
        order = chosen.flatten().argsort()
        counts = chosen.flatten().bincount(minlength=self.num_experts)
        sizes = counts if not self.training else -(-counts // GROUP) * GROUP
        places = torch.arange(len(order), device=x.device)
        places = places + ((sizes - counts).cumsum(0) - (sizes - counts)).repeat_interleave(counts)
        total = int(sizes.sum())
        tokens = order.new_zeros(total).index_copy(0, places, order // chosen.shape[1])
        shares = weights.new_zeros(total).index_copy(0, places, weights.flatten()[order])  # fillers count 0
        groups = x.index_select(0, tokens).split(sizes.tolist())
        matrices = zip(self.gate_up_proj.unbind(), self.down_proj.unbind(), strict=True)  # one gradient for all
        parts = [self._through(group, *both) for group, both in zip(groups, matrices, strict=True) if len(group)]
        mixed = torch.cat(parts) * shares[:, None].to(x.dtype)
        return torch.zeros_like(x).index_add(0, tokens, mixed.to(x.dtype))

    def _through(self, x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        """Tokens (N, H) through one expert."""
        return F.linear(self._apply_gate(F.linear(x, gate_up)), down)


class Router(nn.Module):
    """Scores every expert on its own (sigmoid, float32) and takes the best k after a balancing bias."""

    def __init__(self, config: PrimerConfig):
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.register_buffer("balance", torch.zeros(config.num_experts))

    def forward(self, x: Tensor) -> tuple[Routing, Tensor]:
        """Tokens (N, H) to their routing and the weights (N, k) of the chosen experts, which add up to one."""
        mixed = torch.is_autocast_enabled(x.device.type)
        with torch.autocast(x.device.type, enabled=False) if mixed else nullcontext():
            logits = F.linear(x.float(), self.weight.float())
        scores = logits.sigmoid()
        chosen = (scores.detach() + self.balance).topk(self.top_k, -1).indices
        picked = scores.gather(1, chosen)
        return Routing(scores, logits, chosen), picked / picked.sum(-1, keepdim=True)


class MoE(nn.Module):
    """Routed experts and one expert that every token shares."""

    def __init__(self, config: PrimerConfig):
        super().__init__()
        self.gate = Router(config)
        self.experts = PrimerExperts(config)
        self.shared = MLP(config.hidden_size, config.moe_intermediate_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        tokens = x.flatten(0, 1)
        routing, weights = self.gate(tokens)
        return (self.experts(tokens, routing.chosen, weights) + self.shared(tokens)).view_as(x), routing


class DecoderLayer(nn.Module):
    """Attention, then a dense MLP (first layer) or a mixture of experts."""

    def __init__(self, config: PrimerConfig, layer: int):
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MoE(config) if layer else MLP(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, angles, cache, mask) -> tuple[Tensor, Routing | None]:
        x = x + self.attention(self.attention_norm(x), angles, cache, mask)
        mixed = self.mlp(self.mlp_norm(x))
        if isinstance(mixed, tuple):
            return x + mixed[0], mixed[1]
        return x + mixed, None


class PrimerPreTrainedModel(PreTrainedModel):
    config_class = PrimerConfig
    base_model_prefix = "model"
    _no_split_modules = ["DecoderLayer"]
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Normal with 1 / sqrt(fan-in); what ends in the residual stream smaller by the depth."""
        if isinstance(module, nn.Linear):
            module.weight.normal_(std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.RMSNorm):
            module.weight.fill_(1.0)
        elif isinstance(module, Router):
            module.weight.normal_(std=module.weight.shape[1] ** -0.5)
            module.balance.zero_()
        elif isinstance(module, PrimerExperts):
            module.gate_up_proj.normal_(std=module.gate_up_proj.shape[2] ** -0.5)
            module.down_proj.normal_(std=module.down_proj.shape[2] ** -0.5 * self._residual_scale)
        if isinstance(module, Attention):
            module.out.weight.mul_(self._residual_scale)
        elif isinstance(module, MLP):
            module.down.weight.mul_(self._residual_scale)

    @property
    def _residual_scale(self) -> float:
        return (2 * self.config.num_hidden_layers) ** -0.5


class PrimerModel(PrimerPreTrainedModel):
    """The decoder without its head."""

    def __init__(self, config: PrimerConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (B, L, 3) to cosines and sines (B, 1, L, D / 2), the axes interleaved over the frequencies."""
        axes, frequencies = rotary_axes(self.config.head_dim // 2, self.config.rope_theta, positions.device)
        angles = positions.float()[:, None, :, axes] * frequencies
        dtype = self.embed_tokens.weight.dtype
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def forward(
        self, input_ids: Tensor, positions: Tensor | None = None, cache: KeyValueCache | None = None, **_
    ) -> PrimerOutput:
        """Ids (B, L) and positions (B, L, 3) of time, row and column (by default a text's) to hidden states."""
        if positions is None:
            start = cache.length if cache else 0
            line = torch.arange(start, start + input_ids.shape[1], device=input_ids.device)
            positions = line[None, :, None].expand(len(input_ids), -1, 3)
        angles = self.angles(positions)
        if cache is not None:
            cache.require(input_ids.shape[1])
        mask = cache.mask(input_ids.shape[1]) if cache else None
        x, routing = self.embed_tokens(input_ids), []
        for layer in self.layers:
            x, routed = layer(x, angles, cache, mask)
            if routed is not None:
                routing.append(routed)
        if cache is not None:
            cache.length += input_ids.shape[1]
        return PrimerOutput(last_hidden_state=self.norm(x), routing=tuple(routing))


class PrimerForCausalLM(PrimerPreTrainedModel, GenerationMixin):
    """The decoder with its tied head, and a small projection for contrast between modalities."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: PrimerConfig):
        super().__init__(config)
        self.model = PrimerModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.contrast = nn.Linear(config.hidden_size, config.contrast_size, bias=False)
        self.post_init()

    def head(self, hidden: Tensor, group: slice) -> Tensor:
        """Hidden states (..., H) to logits over one range of the vocabulary."""
        return F.linear(hidden, self.lm_head.weight[group])

    def forward(
        self, input_ids: Tensor, positions: Tensor | None = None, cache: KeyValueCache | None = None, **_
    ) -> PrimerOutput:
        """Logits (B, L, vocabulary) and all that PrimerModel returns."""
        output = self.model(input_ids, positions, cache)
        output.logits = self.lm_head(output.last_hidden_state)
        return output


AutoConfig.register("primer", PrimerConfig)
AutoModel.register(PrimerConfig, PrimerModel)
AutoModelForCausalLM.register(PrimerConfig, PrimerForCausalLM)
