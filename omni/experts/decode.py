"""What a decoder layer does for one token, in few calls: its attention, its router and its dense MLP, by ``token.c``.

For one token the number of calls is the time, far more than what they compute. A module's own way is kept for prompts,
for masks and for whatever else it is asked; a module is given the short way only if that is found to give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from omni.experts.kernels import SILU, Native
from omni.experts.linear import FourBitLinear
from omni.experts.norms import OneCallRMSNorm

NEAR = 0.03  # of the length of what the module's own way gives; bf16 rounds there after each of a dozen operations


@dataclass(eq=False)
class OneTokenAttention:
    """Stands in for ``forward`` of an attention with grouped queries, turned heads and norms of each head, or none."""

    module: nn.Module
    own: Callable  # the module's forward
    kernel: Native

    @staticmethod
    def fits(module: nn.Module) -> bool:
        projections = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
        norms = [getattr(module, name, None) for name in ("q_norm", "k_norm")]
        plain = all(isinstance(one, FourBitLinear) and one.bias is None for one in projections)
        by_head = all(
            one is None or isinstance(one, OneCallRMSNorm) and len(one.weight) == module.head_dim for one in norms
        )
        return plain and by_head and hasattr(module, "scaling") and hasattr(module, "layer_idx")

    def __call__(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        past_key_values=None,
        **more,
    ) -> tuple[Tensor, None]:
        """(1, 1, hidden) to the same."""
        one_token = hidden_states.shape[:2] == (1, 1) and hidden_states.dtype == torch.bfloat16
        if not one_token or attention_mask is not None or past_key_values is None or position_embeddings is None:
            return self.own(
                hidden_states, position_embeddings=position_embeddings, attention_mask=attention_mask,
                past_key_values=past_key_values, **more,
            )  # fmt: skip
        module, width = self.module, self.module.head_dim
        projections = (module.q_proj, module.k_proj, module.v_proj)
        made = self.kernel.side_by_side(hidden_states.view(1, -1).float(), [one.operand for one in projections])
        queries, keys, values = made.split([one.out_features for one in projections])
        cosine, sine = (one.contiguous() for one in position_embeddings)
        queries = self._turned(queries, getattr(module, "q_norm", None), cosine, sine)
        keys = self._turned(keys, getattr(module, "k_norm", None), cosine, sine)
        values = values.bfloat16().view(1, -1, 1, width)
        keys, values = past_key_values.update(keys.view(1, -1, 1, width), values, module.layer_idx)
        mixed = self._attended(queries, _by_head(keys), _by_head(values))
        return self.kernel.side_by_side(mixed, [module.o_proj.operand]).bfloat16().view(1, 1, -1), None

    def _turned(self, heads: Tensor, norm: OneCallRMSNorm | None, cosine: Tensor, sine: Tensor) -> Tensor:
        """All heads of the token, float32, to bf16, normalised and turned."""
        out, width = torch.empty_like(heads, dtype=torch.bfloat16), self.module.head_dim
        weight, epsilon = (norm.exact().data_ptr(), norm.variance_epsilon) if norm is not None else (None, 0.0)
        self.kernel.library.turn_heads(
            len(heads) // width, width, heads.data_ptr(), weight, epsilon, cosine.data_ptr(), sine.data_ptr(),
            out.data_ptr(),
        )  # fmt: skip
        return out

    def _attended(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What the token takes from ``values`` (1, kv heads, T, width), as (1, heads * width) float32."""
        _, kv_heads, length, width = keys.shape
        out = torch.empty(1, len(queries), dtype=torch.float32)
        self.kernel.done(
            self.kernel.library.attend(
                len(queries) // width, kv_heads, width, length, queries.data_ptr(), keys.data_ptr(), keys.stride(1),
                values.data_ptr(), values.stride(1), self.module.scaling, out.data_ptr(), torch.get_num_threads(),
            )
        )  # fmt: skip
        return out

    @torch.no_grad()
    def is_near(self) -> bool:
        """Whether it gives what the module's own way gives, for a token behind a few others."""
        module, generator = self.module, torch.Generator().manual_seed(0)
        kv_heads, width = module.k_proj.out_features // module.head_dim, module.head_dim
        before = torch.randn(2, 1, kv_heads, 5, width, generator=generator).bfloat16()
        angles = torch.randn(1, 1, width // 2, generator=generator).repeat(1, 1, 2)
        turns = (angles.cos().bfloat16(), angles.sin().bfloat16())
        x = torch.randn(1, 1, module.q_proj.in_features, generator=generator).bfloat16()
        made = []
        for way in (self.own, self):
            cache = DynamicCache()
            for layer in range(module.layer_idx + 1):
                cache.update(*before, layer)
            made.append(way(x, position_embeddings=turns, attention_mask=None, past_key_values=cache)[0])
        return _near(*made)


def _by_head(cached: Tensor) -> Tensor:
    """Keys or values (1, heads, T, width), the tokens of a head one behind the other."""
    return cached if cached.stride()[2:] == (cached.shape[3], 1) else cached.contiguous()


@dataclass(eq=False)
class OneTokenRouter:
    """Stands in for ``forward`` of a router: softmax over all experts, the largest shares, made to add up or not."""

    module: nn.Module
    own: Callable
    kernel: Native

    @staticmethod
    def fits(module: nn.Module) -> bool:
        weight = getattr(module, "weight", None)
        in_place = isinstance(weight, Tensor) and weight.dim() == 2 and weight.dtype == torch.bfloat16
        return in_place and isinstance(getattr(module, "top_k", None), int)

    def __call__(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(1, hidden) to logits (1, experts), shares (1, k) and the experts that they are of (1, k)."""
        module, weight = self.module, self.module.weight
        if hidden_states.numel() != weight.shape[1] or hidden_states.dtype != torch.bfloat16:
            return self.own(hidden_states)
        x, (experts, hidden), count = hidden_states.contiguous(), weight.shape, module.top_k
        logits, shares = x.new_empty(1, experts), x.new_empty(1, count)
        chosen = torch.empty(1, count, dtype=torch.int64)
        self.kernel.done(
            self.kernel.library.route(
                experts, hidden, count, getattr(module, "norm_topk_prob", True), x.data_ptr(), weight.data_ptr(),
                logits.data_ptr(), shares.data_ptr(), chosen.data_ptr(), torch.get_num_threads(),
            )
        )  # fmt: skip
        return logits, shares, chosen

    @torch.no_grad()
    def is_near(self) -> bool:
        """Whether logits and shares are those of the module's own way; near ties may fall the other way."""
        x = torch.randn(1, self.module.weight.shape[1], generator=torch.Generator().manual_seed(0)).bfloat16()
        own, made = self.own(x), self(x)
        return len(own) == 3 and all(_near(one, other) for one, other in zip(own[:2], made[:2], strict=True))


@dataclass(eq=False)
class OneTokenMLP:
    """Stands in for ``forward`` of a SwiGLU MLP."""

    module: nn.Module
    own: Callable
    kernel: Native

    @staticmethod
    def fits(module: nn.Module) -> bool:
        matrices = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
        plain = all(isinstance(one, FourBitLinear) and one.bias is None for one in matrices)
        return plain and isinstance(getattr(module, "act_fn", None), SILU)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., hidden) of one token to the same."""
        module = self.module
        if x.numel() != x.shape[-1]:
            return self.own(x)
        gate, up, down = module.gate_proj.operand, module.up_proj.operand, module.down_proj.operand
        expert = gate.places[:2] + up.places[:2] + down.places[:2]
        return self.kernel.swiglu(x.reshape(1, -1).float(), [expert], down).to(x.dtype).view(x.shape)

    @torch.no_grad()
    def is_near(self) -> bool:
        """Whether it gives what the module's own way gives."""
        x = torch.randn(1, self.module.gate_proj.in_features, generator=torch.Generator().manual_seed(0)).bfloat16()
        return _near(self.own(x), self(x))


WAYS = (OneTokenAttention, OneTokenRouter, OneTokenMLP)


def shorten(model: nn.Module, kernel: Native) -> None:
    """Give the modules of a ``model`` in bf16 their short ways, once linear layers and norms are what they will be."""
    if kernel.dtype != torch.bfloat16:
        return
    for module, way in _candidates(model):
        short = way(module, module.forward, kernel)
        if short.is_near():
            module.forward = short


def _candidates(model: nn.Module) -> Iterator[tuple[nn.Module, type]]:
    for module in list(model.modules()):
        yield from ((module, way) for way in WAYS if way.fits(module))


def _near(own: Tensor, made: Tensor) -> bool:
    return own.shape == made.shape and bool((own.float() - made.float()).norm() <= NEAR * own.float().norm())
