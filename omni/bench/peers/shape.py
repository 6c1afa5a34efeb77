"""The mixture of experts that all arms of one comparison run: its sizes, its bytes and the tokens it is fed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NF4_BYTES = 0.5 + 4 / 64  # bytes a weight: half a byte and an fp32 maximum for each 64
Q4_0_BYTES = 18 / 32  # bytes a weight in llama.cpp's Q4_0: half a byte and an fp16 scale for each 32
BF16_BYTES = 2.0
SEED = 20
LOUDNESS = 512  # of the embedding: else the mean of all tokens, which attention adds, drowns each one layer by layer


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen3-MoE; by default the layers of Qwen3-30B-A3B, few of them, with a small vocabulary.

    ``skew`` sets how unevenly a random router chooses: 0 is uniform; with s > 0 the routers' rows shrink as rank ** -s.
    """

    layers: int = 8
    experts: int = 128
    top_k: int = 8
    hidden: int = 2048
    inner: int = 768
    heads: int = 32
    kv_heads: int = 4
    head_dim: int = 128
    vocabulary: int = 2000
    skew: float = 0.0

    @property
    def expert_weights(self) -> int:
        """Weights of one expert."""
        return 3 * self.hidden * self.inner

    @property
    def attention_weights(self) -> int:
        """Weights of the four projections of one layer's attention."""
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    @property
    def head_weights(self) -> int:
        return self.vocabulary * self.hidden

    def experts_bytes(self, per_weight: float = NF4_BYTES) -> int:
        """Bytes of all experts of all layers."""
        return int(self.layers * self.experts * self.expert_weights * per_weight)

    def dense_bytes(self, per_weight: float = BF16_BYTES) -> int:
        """Bytes of everything but the experts: attention and routers, embedding and head."""
        layer = self.attention_weights + self.experts * self.hidden
        return int((self.layers * layer + 2 * self.head_weights) * per_weight)

    def active_expert_bytes(self, per_weight: float = NF4_BYTES) -> int:
        """Bytes of the experts that one decode step reads."""
        return int(self.layers * self.top_k * self.expert_weights * per_weight)

    def active_bytes(self, expert: float = NF4_BYTES, dense: float = BF16_BYTES) -> int:
        """Bytes of all weights that one decode step reads: experts, attention, routers and head, by bytes a weight."""
        layer = self.attention_weights + self.experts * self.hidden
        return self.active_expert_bytes(expert) + int((self.layers * layer + self.head_weights) * dense)


def tokens(shape: Shape, count: int, zipf: float = 0.0) -> list[int]:
    """The same ``count`` token ids for every arm: uniform, or by rank ** -zipf, so that some come again and again."""
    generator = np.random.default_rng(SEED)
    chance = np.arange(1, shape.vocabulary + 1) ** -float(zipf)
    return generator.choice(shape.vocabulary, count, p=chance / chance.sum()).tolist()


def router_scales(shape: Shape, layer: int) -> np.ndarray:
    """(experts,) float32: how large the rows of a layer's router are, in an order of the layer's own."""
    ranks = np.random.default_rng(SEED + layer).permutation(shape.experts) + 1
    return (ranks ** -float(shape.skew)).astype(np.float32)


def bits(generator: np.random.Generator, count: int) -> np.ndarray:
    """(count,) random bytes, as fast as they come."""
    return generator.integers(0, 2**64, -(-count // 8), dtype=np.uint64).view(np.uint8)[:count]
