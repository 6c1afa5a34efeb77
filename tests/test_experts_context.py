"""Keys and values with room to grow: what transformers' own layers hold, without copying them."""

import pytest
import torch
from transformers import DynamicCache, Qwen3Config
from transformers.cache_utils import DynamicSlidingWindowLayer

from omni.experts.context import ROOM, RoomyLayer, roomy_cache


def new(tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, 1, 3, tokens, 8, generator=torch.Generator().manual_seed(seed)).unbind())


@pytest.mark.parametrize("steps", [(1, 1, 1), (5, 1, 1), (ROOM - 1, 1, 1, 1), (1, 2 * ROOM, 1)])
def test_it_holds_what_transformers_holds(steps):
    mine, theirs = RoomyLayer(), DynamicCache()
    for seed, tokens in enumerate(steps):
        held, true = mine.update(*new(tokens, seed)), theirs.update(*new(tokens, seed), 0)
        assert all(torch.equal(one, other) for one, other in zip(held, true, strict=True))
    assert mine.get_seq_length() == sum(steps)


def test_a_token_is_written_where_there_is_room():
    layer = RoomyLayer()
    before, _ = layer.update(*new(3, 0))
    after, _ = layer.update(*new(1, 1))
    assert after.data_ptr() == before.data_ptr()


def test_cropped_and_reset_it_goes_on_rightly():
    layer = RoomyLayer()
    layer.update(*new(6, 0))
    layer.crop(-2)
    keys, _ = layer.update(*new(1, 1))
    assert torch.equal(keys, torch.cat([new(6, 0)[0][:, :, :4], new(1, 1)[0]], dim=2))
    layer.reset()
    keys, values = layer.update(*new(2, 2))
    assert torch.equal(keys, new(2, 2)[0])
    assert torch.equal(values, new(2, 2)[1])


def test_layers_with_a_window_stay_as_they_are():
    kinds = {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 4, "use_sliding_window": True}
    cache = roomy_cache(Qwen3Config(num_hidden_layers=2, **kinds))
    assert [type(layer) for layer in cache.layers] == [RoomyLayer, DynamicSlidingWindowLayer]
