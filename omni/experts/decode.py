"""What a decoder layer does for one token, in few calls, by ``token.c`` and ``layer.c``.

Its attention, its router and its dense MLP are a call each; a whole layer is one, with a mixture's experts behind it.
For one token the number of calls is the time, far more than what they compute. A module's own way is kept for prompts,
for masks and for whatever else it is asked; a module is given the short way only if that is found to give the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from omni.experts.context import RoomyLayer
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
        cache=None,
        **more,
    ) -> tuple[Tensor, None]:
        """(1, 1, hidden) to the same."""
        plain = attention_mask is None and cache is not None and position_embeddings is not None
        if not (plain and _is_one_token(hidden_states)):
            return self.own(
                hidden_states, position_embeddings=position_embeddings, attention_mask=attention_mask,
                cache=cache, **more,
            )  # fmt: skip
        module, width = self.module, self.module.head_dim
        projections = (module.q_proj, module.k_proj, module.v_proj)
        made = self.kernel.side_by_side(hidden_states.view(1, -1).float(), [one.operand for one in projections])
        queries, keys, values = made.split([one.out_features for one in projections])
        cosine, sine = (one.contiguous() for one in position_embeddings)
        queries = self._turned(queries, getattr(module, "q_norm", None), cosine, sine)
        keys = self._turned(keys, getattr(module, "k_norm", None), cosine, sine)
        values = values.bfloat16().view(1, -1, 1, width)
        keys, values = cache.update(keys.view(1, -1, 1, width), values, module.layer_idx)
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
        module, made = self.module, []
        before, turns, x = _trial(module)
        for way in (self.own, self):
            cache = DynamicCache()
            for layer in range(module.layer_idx + 1):
                cache.update(*before, layer)
            made.append(way(x, position_embeddings=turns, attention_mask=None, cache=cache)[0])
        return _near(*made)


def _is_one_token(hidden: Tensor) -> bool:
    return hidden.shape[:2] == (1, 1) and hidden.dtype == torch.bfloat16


def _trial(attention: nn.Module) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """What an attention is tried on: keys and values of five tokens, the turns of the next, and the token itself."""
    generator, width = torch.Generator().manual_seed(0), attention.head_dim
    before = torch.randn(2, 1, attention.k_proj.out_features // width, 5, width, generator=generator).bfloat16()
    angles = torch.randn(1, 1, width // 2, generator=generator).repeat(1, 1, 2)
    x = torch.randn(1, 1, attention.q_proj.in_features, generator=generator).bfloat16()
    return before, (angles.cos().bfloat16(), angles.sin().bfloat16()), x


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
        made = self.kernel.swiglu(x.reshape(1, -1).float(), [self.places], module.down_proj.operand)
        return made.to(x.dtype).view(x.shape)

    @property
    def places(self) -> tuple[int, ...]:
        """Where gate, up and down lie, each with its block maxima."""
        projections = (self.module.gate_proj, self.module.up_proj, self.module.down_proj)
        return sum((one.operand.places[:2] for one in projections), ())

    @torch.no_grad()
    def is_near(self) -> bool:
        """Whether it gives what the module's own way gives."""
        x = torch.randn(1, self.module.gate_proj.in_features, generator=torch.Generator().manual_seed(0)).bfloat16()
        return _near(self.own(x), self(x))


class _Matrix(ctypes.Structure):
    _fields_ = [("packed", ctypes.c_void_p), ("absmax", ctypes.c_void_p), ("rows", ctypes.c_long)]


class _Layer(ctypes.Structure):
    """``Layer`` of ``layer.c``."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("hidden", "heads", "kv_heads", "width", "inner")),
        *((name, ctypes.c_float) for name in ("scaling", "epsilon", "head_epsilon")),
        *((name, ctypes.c_void_p) for name in ("before_attention", "before_mlp", "query_norm", "key_norm")),
        ("projections", _Matrix * 3),
        ("output", _Matrix),
        ("mlp", ctypes.c_void_p * 6),
    ]


@dataclass(eq=False)
class OneTokenLayer:
    """Stands in for ``forward`` of a decoder layer: norm, attention, norm, MLP, each half added to what came in.

    Its attention has its short way already. An MLP without one, a mixture of experts, is called as it is.
    """

    module: nn.Module
    own: Callable
    kernel: Native

    def __post_init__(self):
        self._described, self._described_at = None, 0

    @staticmethod
    def fits(module: nn.Module) -> bool:
        short = isinstance(getattr(getattr(module, "self_attn", None), "forward", None), OneTokenAttention)
        norms = [getattr(module, name, None) for name in ("input_layernorm", "post_attention_layernorm")]
        if not short or not isinstance(getattr(module, "mlp", None), nn.Module):
            return False
        epsilons = {norm.variance_epsilon for norm in norms if isinstance(norm, OneCallRMSNorm)}
        of_heads = [getattr(module.self_attn, name, None) for name in ("q_norm", "k_norm")]
        alike = len({one and one.variance_epsilon for one in of_heads}) == 1
        return all(isinstance(norm, OneCallRMSNorm) for norm in norms) and len(epsilons) == 1 and alike

    def __call__(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        cache=None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **more,
    ) -> Tensor:
        """(1, 1, hidden) to the same."""
        room = self._room(cache)
        plain = attention_mask is None and room is not None and position_embeddings is not None
        if not (plain and _is_one_token(hidden_states)):
            return self.own(
                hidden_states, attention_mask=attention_mask, cache=cache,
                position_embeddings=position_embeddings, **more,
            )  # fmt: skip
        layer, x = self._layer(), hidden_states.contiguous()
        new = x.new_empty(1, layer.kv_heads, 1, layer.width)
        length = room.reserve(new, new)
        cosine, sine = (one.contiguous() for one in position_embeddings)
        out, normed = torch.empty_like(x), torch.empty_like(x)
        self.kernel.done(
            self.kernel.library.decoder_layer(
                ctypes.addressof(layer), x.data_ptr(), cosine.data_ptr(), sine.data_ptr(), room.keys.data_ptr(),
                room.keys.stride(1), room.values.data_ptr(), room.values.stride(1), length, out.data_ptr(),
                normed.data_ptr(), torch.get_num_threads(),
            )
        )  # fmt: skip
        return out if layer.inner else out + self.module.mlp(normed)

    def _room(self, cache) -> RoomyLayer | None:
        """Where the token's keys and values go, if they can be written in place."""
        layers, index = getattr(cache, "layers", ()), self.module.self_attn.layer_idx
        return layers[index] if len(layers) > index and type(layers[index]) is RoomyLayer else None

    def _layer(self) -> _Layer:
        """The layer as C has it, kept for as long as its weights lie where they lay."""
        at = self.module.self_attn.q_proj.slot.data_ptr()
        if self._described_at != at:
            self._described, self._described_at = self._describe(), at
        return self._described

    def _describe(self) -> _Layer:
        module, attention, mlp = self.module, self.module.self_attn, self.module.mlp
        norms, dense = (module.input_layernorm, module.post_attention_layernorm), isinstance(mlp.forward, OneTokenMLP)
        of_heads = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        width = attention.head_dim
        return _Layer(
            attention.q_proj.in_features, *(one.out_features // width for one in projections[:2]), width,
            mlp.down_proj.in_features if dense else 0,
            attention.scaling, norms[0].variance_epsilon, of_heads[0].variance_epsilon if of_heads[0] else 0.0,
            *(norm.exact().data_ptr() for norm in norms), *(one and one.exact().data_ptr() for one in of_heads),
            (_Matrix * 3)(*map(_matrix, projections)), _matrix(attention.o_proj),
            (ctypes.c_void_p * 6)(*(mlp.forward.places if dense else [])),
        )  # fmt: skip

    @torch.no_grad()
    def is_near(self) -> bool:
        """Whether it gives what the module's own way gives; a mixture of experts is left out, for both go to it."""
        module, attention = self.module, self.module.self_attn
        before, turns, x = _trial(attention)
        made, mlp = [], module.mlp
        if not isinstance(mlp.forward, OneTokenMLP):
            module.mlp = nn.Identity()
        try:
            for way in (self.own, self):
                cache = DynamicCache()
                cache.layers = [RoomyLayer() for _ in range(attention.layer_idx + 1)]
                cache.update(*before, attention.layer_idx)
                made.append(way(x, position_embeddings=turns, attention_mask=None, cache=cache))
        finally:
            module.mlp, self._described_at = mlp, 0
        return all(isinstance(one, Tensor) for one in made) and _near(*made)


def _matrix(linear: FourBitLinear) -> _Matrix:
    return _Matrix(*linear.operand.places[:2], linear.out_features)


WAYS = (OneTokenAttention, OneTokenRouter, OneTokenMLP, OneTokenLayer)  # a layer's parts before the layer


def shorten(model: nn.Module, kernel: Native) -> None:
    """Give the modules of a ``model`` in bf16 their short ways, once linear layers and norms are what they will be."""
    if kernel.dtype != torch.bfloat16:
        return
    for module, way in _candidates(model):
        short = way(module, module.forward, kernel)
        if short.is_near():
            module.forward = short


def _candidates(model: nn.Module) -> Iterator[tuple[nn.Module, type]]:
    for way in WAYS:
        yield from ((module, way) for module in list(model.modules()) if way.fits(module))


def _near(own: Tensor, made: Tensor) -> bool:
    return own.shape == made.shape and bool((own.float() - made.float()).norm() <= NEAR * own.float().norm())
