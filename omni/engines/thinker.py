"""The words of Qwen3-Omni, token by token: prefill of text, pictures, sound and clips, then one step a token.

Only the last position goes through the head: over the whole prompt its logits would take a gigabyte. Knows nothing of
conversations, events or speech.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import Qwen3OmniMoeForConditionalGeneration

from omni.engines.sampling import Chooser
from omni.engines.talker import Prompt
from omni.experts.context import roomy_cache
from omni.experts.memory import large_blocks_apart


class Thinker:
    """Tokens of one reply. State: the cache, the position behind it, and the logits for the next token."""

    def __init__(self, model: Qwen3OmniMoeForConditionalGeneration, chooser: Chooser):
        self.model, self.thinker, self.chooser = model, model.thinker, chooser
        self.cache = roomy_cache(model.config.thinker_config.text_config)
        self.delta = 0  # of the position behind the place in the cache
        self.logits: Tensor | None = None  # (1, vocabulary)

    @torch.inference_mode()
    def read(self, inputs: Mapping[str, Tensor], sound_in_clips: bool = False, for_talker: bool = False) -> Prompt:
        """Take in the prompt: what transformers' processor makes of it, one row. Returns it as a talker wants it."""
        ids = inputs["input_ids"]
        grids = self._grids(inputs, sound_in_clips)
        positions, delta = self.thinker.get_rope_index(ids, attention_mask=torch.ones_like(ids), **grids)
        self.delta = int(delta.item())
        media = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
        with self._kept(for_talker and bool(media)) as kept, large_blocks_apart():
            self._forward(positions, input_ids=ids, use_audio_in_video=sound_in_clips, **media)
        return Prompt(ids, kept[0] if kept else None, grids)

    @torch.inference_mode()
    def choose(self) -> int:
        """The next token."""
        return int(self.chooser.choose(self.logits).item())

    @torch.inference_mode()
    def step(self, token: int) -> None:
        """Read the token that was chosen."""
        device = self.model.device
        positions = torch.full((3, 1, 1), self.cache.get_seq_length() + self.delta, device=device)
        self._forward(positions, input_ids=torch.tensor([[token]], device=device))

    def _forward(self, positions: Tensor, **inputs) -> None:
        out = self.thinker.model(position_ids=positions, cache=self.cache, use_cache=True, **inputs)
        self.logits = self.thinker.lm_head(out.last_hidden_state[:, -1])

    @contextmanager
    def _kept(self, wanted: bool) -> Iterator[list[Tensor]]:
        """What comes out of the layer behind which the talker looks at media; all layers would be a gigabyte."""
        kept: list[Tensor] = []
        if not wanted:
            yield kept
            return
        layer = self.thinker.model.language_model.layers[self.model.config.talker_config.accept_hidden_layer - 1]
        hook = layer.register_forward_hook(lambda _module, _inputs, out: kept.append(out))
        try:
            yield kept
        finally:
            hook.remove()

    def _grids(self, inputs: Mapping[str, Tensor], sound_in_clips: bool) -> dict[str, Tensor | bool | None]:
        heard = inputs.get("feature_attention_mask")
        return {
            "image_grid_thw": inputs.get("image_grid_thw"),
            "video_grid_thw": inputs.get("video_grid_thw"),
            "use_audio_in_video": sound_in_clips,
            "audio_seqlens": None if heard is None else heard.sum(-1),
            "second_per_grids": inputs.get("video_second_per_grid"),
        }
