"""The short ways of one token: the same as the modules' own within rounding, given only where they are."""

from __future__ import annotations

import shutil

import experts_tiny
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from omni.experts import decode, native
from omni.experts.context import roomy_cache
from omni.experts.decode import OneTokenAttention, OneTokenLayer, OneTokenMLP, OneTokenRouter
from omni.experts.kernels import Unpacked
from omni.experts.loading import load_model

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
WAYS = {  # of the layers of each model: attention, router, dense MLP
    "qwen3_moe": {OneTokenAttention, OneTokenRouter, OneTokenLayer},
    "mixtral": {OneTokenAttention, OneTokenRouter, OneTokenLayer},
    "olmoe": {OneTokenRouter},  # its norms span all heads
    "qwen3_5_moe": {OneTokenRouter, OneTokenMLP},  # its attention has a gate
    "qwen3_omni": {OneTokenAttention, OneTokenRouter, OneTokenMLP, OneTokenLayer},
    "primer": set(),
}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", WAYS)
def test_each_model_gets_the_ways_that_it_can_take(name, tmp_path):
    loaded = load_model(experts_tiny.save(name, tmp_path), four_bit_dense=True)
    given = {type(module.forward) for module in loaded.model.modules()} & set(decode.WAYS)
    loaded.experts.close()
    assert given == WAYS[name]


def said(loaded, steps: int = 12) -> tuple[torch.Tensor, list]:
    """Logits of tokens behind a prompt, one after the other, and the experts that each of them took."""
    [held] = loaded.experts.pools
    tokens = torch.randint(3, 100, (1, 7 + steps), generator=torch.Generator().manual_seed(3))
    cache = roomy_cache(loaded.model.config)
    with torch.inference_mode():
        loaded.model(tokens[:, :7], cache=cache)
        held.routing.open()
        made = [loaded.model(token, cache=cache).logits[:, -1] for token in tokens[:, 7:].split(1, 1)]
    return torch.cat(made), np.concatenate(held.routing.take()).tolist()


@pytest.mark.parametrize("name", [name for name in WAYS if name != "primer"])
def test_a_token_behind_a_prompt_takes_the_short_ways(name, tmp_path):
    """A version of transformers that names its arguments otherwise would leave them unused without a word."""
    loaded = load_model(experts_tiny.save(name, tmp_path), four_bit_dense=True)
    model = getattr(loaded.model, "thinker", loaded.model)
    cache = roomy_cache(model.config.get_text_config())
    with torch.inference_mode():
        model(torch.tensor([[3, 4, 5]]), cache=cache)
        for module in model.modules():
            if type(module.forward) in decode.WAYS:
                module.forward.own = lambda *_, module=module, **__: pytest.fail(f"{type(module)} went its own way")
        model(torch.tensor([[6]]), cache=cache)
    loaded.experts.close()


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral", "qwen3_5_moe"])
def test_a_model_says_the_same_with_and_without(name, tmp_path, monkeypatch):
    """A near tie between experts may fall the other way; then that token is another one."""
    folder = experts_tiny.save(name, tmp_path)
    short = load_model(folder, four_bit_dense=True)
    monkeypatch.setattr("omni.experts.loading.shorten", lambda *_: None)
    plain = load_model(folder, four_bit_dense=True)
    (made, took), (own, took_there) = said(short), said(plain)
    same = [i for i in range(len(took)) if took[i] == took_there[i]]
    assert len(same) >= len(took) - 3
    assert (made[same] - own[same]).norm() < 0.06 * own[same].norm()  # bf16 and 8 bits, in each of three layers
    short.experts.close(), plain.experts.close()


def test_a_model_of_another_kernel_is_left_as_it_is(tmp_path):
    kernel = Unpacked(torch.bfloat16)
    loaded = load_model(experts_tiny.save("qwen3_moe", tmp_path), four_bit_dense=True, kernel=kernel)
    assert not any(type(module.forward) in decode.WAYS for module in loaded.model.modules())
    loaded.experts.close()


@pytest.mark.parametrize("length", [1, 5, 700])
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(8, 2, 128), (3, 3, 40)])
def test_attention_of_one_token(heads, kv_heads, width, length):
    queries, keys, values = (
        random(heads, width),
        random(kv_heads, length, width, seed=1),
        random(kv_heads, length, width, seed=2),
    )
    queries, keys, values = (one.bfloat16() for one in (queries, keys, values))
    made = attended(queries, keys, values)
    wide = [one.float()[None] for one in (queries[:, None], keys, values)]
    true = F.scaled_dot_product_attention(*wide, scale=0.1, enable_gqa=True)[0, :, 0]
    torch.testing.assert_close(made, true, rtol=1e-4, atol=1e-5)
    assert torch.equal(made, attended(queries, keys, values, threads=1))


def attended(queries, keys, values, threads: int = 2) -> torch.Tensor:
    (heads, width), (kv_heads, length, _) = queries.shape, keys.shape
    out = torch.full((heads, width), 7.0)
    assert not native.library().attend(
        heads, kv_heads, width, length, queries.data_ptr(), keys.data_ptr(), keys.stride(0), values.data_ptr(),
        values.stride(0), 0.1, out.data_ptr(), threads,
    )  # fmt: skip
    return out


def test_attention_does_not_hide_what_is_not_a_number():
    queries, keys = random(2, 64).bfloat16(), random(1, 9, 64, seed=1).bfloat16()
    keys[0, 4, 7] = torch.nan
    assert attended(queries, keys, keys.clone()).isnan().all()


def routed(x, weight, count: int, normalised: bool, threads: int = 2):
    experts, hidden = weight.shape
    logits_, shares = torch.empty(experts, dtype=torch.bfloat16), torch.empty(count, dtype=torch.bfloat16)
    chosen = torch.full((count,), -1)
    assert not native.library().route(
        experts, hidden, count, normalised, x.data_ptr(), weight.data_ptr(), logits_.data_ptr(), shares.data_ptr(),
        chosen.data_ptr(), threads,
    )  # fmt: skip
    return logits_, shares, chosen


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize(("experts", "hidden", "count"), [(128, 2048, 8), (5, 33, 5)])
def test_the_router_chooses_the_largest_shares(experts, hidden, count, normalised):
    x, weight = random(hidden).bfloat16(), (random(experts, hidden, seed=1) / hidden**0.5).bfloat16()
    logits_, shares, chosen = routed(x, weight, count, normalised)
    torch.testing.assert_close(logits_.float(), weight.float() @ x.float(), rtol=2**-7, atol=1e-3)
    true, order = logits_.float().softmax(-1).topk(count)
    assert chosen.tolist() == order.tolist() or torch.equal(logits_[chosen], logits_[order])  # ties
    torch.testing.assert_close(shares.float(), true / true.sum() if normalised else true, rtol=2**-7, atol=0)
    assert torch.equal(chosen, routed(x, weight, count, normalised, threads=1)[2])


def test_a_router_without_numbers_still_chooses_different_experts():
    _, shares, chosen = routed(torch.full((32,), torch.nan).bfloat16(), random(8, 32).bfloat16(), 3, True)
    assert shares.isnan().all()
    assert len(set(chosen.tolist())) == 3
