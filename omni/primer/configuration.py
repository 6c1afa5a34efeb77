"""The sizes of Primer."""

from __future__ import annotations

from transformers import PretrainedConfig

from omni.primer import vocabulary


class PrimerConfig(PretrainedConfig):
    """One config, two sizes: ``nano`` trains on two CPU cores, ``mini`` wants a GPU for half an hour."""

    model_type = "primer"

    def __init__(
        self,
        vocab_size: int = vocabulary.SIZE,
        hidden_size: int = 256,
        num_hidden_layers: int = 6,
        num_attention_heads: int = 8,
        num_key_value_heads: int = 4,
        intermediate_size: int = 768,  # of the dense first layer
        moe_intermediate_size: int = 256,
        num_experts: int = 8,
        num_experts_per_tok: int = 2,
        rope_theta: float = 10_000.0,
        rms_norm_eps: float = 1e-6,
        max_position_embeddings: int = 4096,
        contrast_size: int = 128,
        **kwargs,
    ):
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.intermediate_size = intermediate_size
        self.moe_intermediate_size = moe_intermediate_size
        self.num_experts = num_experts
        self.num_experts_per_tok = num_experts_per_tok
        self.rope_theta = rope_theta
        self.rms_norm_eps = rms_norm_eps
        self.max_position_embeddings = max_position_embeddings
        self.contrast_size = contrast_size
        self.vocab_size = vocab_size
        kwargs.setdefault("tie_word_embeddings", True)
        super().__init__(**kwargs)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


SIZES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
             "intermediate_size": 128, "moe_intermediate_size": 64, "num_experts": 4},
    "nano": {},
    "mini": {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4,
             "intermediate_size": 1536, "moe_intermediate_size": 512, "num_experts": 12},
}  # fmt: skip
