"""Keys and values with room to grow: a token is written behind the others, where transformers copies them all."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 256  # tokens by which a layer grows


class RoomyLayer(DynamicLayer):
    """The keys and values of one layer, (1, heads, T, width) each, at the beginning of rooms for more."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._rooms: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Append (B, heads, n, width); returns all keys and values, which share memory with the layer."""
        length = self.reserve(key_states, value_states)
        self.keys[:, :, length:] = key_states
        self.values[:, :, length:] = value_states
        return self.keys, self.values

    def reserve(self, key_states: Tensor, value_states: Tensor) -> int:
        """Append what is still to be written, as large as (B, heads, n, width) are; how many tokens are before it."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        whole = length + key_states.shape[-2]
        if not self._has_room(whole):
            self._rooms = tuple(
                self._larger(held, new, whole)
                for held, new in ((self.keys, key_states), (self.values, value_states))
            )  # fmt: skip
        self.keys, self.values = (room[:, :, :whole] for room in self._rooms)
        return length

    def _has_room(self, whole: int) -> bool:
        """Whether what is held still lies in the rooms, and they reach that far."""
        rooms = self._rooms
        return rooms is not None and rooms[0].shape[2] >= whole and self.keys.data_ptr() == rooms[0].data_ptr()

    @staticmethod
    def _larger(held: Tensor, new: Tensor, whole: int) -> Tensor:
        batch, heads, _, width = new.shape
        room = torch.empty(batch, heads, -(-whole // ROOM) * ROOM, width, dtype=new.dtype, device=new.device)
        if held.numel():
            room[:, :, : held.shape[2]] = held
        return room


def roomy_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache for a model of ``config``; layers that keep a window only are as transformers has them."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
