"""The transformer at a tiny random size."""

import pytest
import torch
from primer_tiny import tiny_model
from transformers import AutoModelForCausalLM

from omni.primer.configuration import SIZES, PrimerConfig
from omni.primer.modeling import KeyValueCache, PrimerForCausalLM, causal_attention


def _ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, 7000, (rows, length), generator=torch.Generator().manual_seed(1))


def test_decoding_with_the_cache_equals_one_pass():
    model, ids = tiny_model(), _ids(1, 12)
    whole = model(ids).logits
    cache = KeyValueCache(model.config, 1, 12, model.lm_head.weight)
    parts = [
        model(ids[:, :5], cache=cache).logits,
        *(model(ids[:, i : i + 1], cache=cache).logits for i in range(5, 12)),
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-4)


def test_one_token_takes_the_same_way_through_the_experts_as_many():
    experts = tiny_model().model.layers[1].mlp
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(2))
    routing, weights = experts.gate(x)
    many = experts.experts(x, routing.chosen, weights)
    single = torch.cat([experts.experts(x[i : i + 1], routing.chosen[i : i + 1], weights[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(single, many, rtol=1e-5, atol=1e-5)


def test_a_saved_model_loads_through_the_auto_class(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(again, PrimerForCausalLM)
    torch.testing.assert_close(again(_ids(1, 5)).logits, model(_ids(1, 5)).logits, rtol=1e-5, atol=1e-5)


def test_head_and_embeddings_are_one_table():
    model = PrimerForCausalLM(PrimerConfig(**SIZES["tiny"]))
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_cache_refuses_more_than_it_holds():
    model = tiny_model()
    cache = KeyValueCache(model.config, 1, 4, model.lm_head.weight)
    try:
        model(_ids(1, 5), cache=cache)
    except IndexError as error:
        assert "holds 4 positions" in str(error)
    else:
        raise AssertionError("five positions went into a cache of four")


@pytest.mark.parametrize("shape", [(2, 4, 2, 33, 8), (1, 2, 1, 7, 16), (2, 2, 2, 5, 8)])
def test_attention_by_plain_products_is_the_fused_one(shape):
    batch, heads, kv_heads, length, size = shape
    torch.manual_seed(0)
    q, *rest = (torch.randn(batch, count, length, size) for count in (heads, kv_heads, kv_heads))
    expected = torch.nn.functional.scaled_dot_product_attention(q, *rest, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(causal_attention(q, *rest), expected)
