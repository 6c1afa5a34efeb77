"""The one voice of the page: speech on its way to ``assets/player.js``.

Chunks that came close together travel as one numbered block. The value holds the newest blocks only, so that a long
answer stays cheap, and enough of them that an update which the browser merged with the next loses nothing. Blocks are
a dictionary because Gradio sends the difference of two values, place by place: in a list that moves on every place
differs.
"""

from __future__ import annotations

import base64
import time
from typing import Any

import numpy as np

from omni.events import SpeechChunk

EVERY = 0.15  # seconds between two blocks; the player waits for more than that before it begins
KEPT = 24  # blocks: each is in the value for at least 3.6 seconds

SILENT: dict[str, Any] = {"name": None, "rate": 24_000, "blocks": {}}


class Voice:
    """The voice of one reply. State: the blocks on show, how many were made, how many chunks they hold, and when."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._blocks: dict[str, str] = {}
        self._made = 0
        self._spoken = 0
        self._last = -EVERY

    def value(self, speech: tuple[SpeechChunk, ...], *, complete: bool = False) -> dict[str, Any]:
        """What the player has to know by now; a complete ``speech`` is handed over to its end."""
        if not speech:
            return SILENT
        now = time.monotonic()
        if len(speech) > self._spoken and (complete or now >= self._last + EVERY):
            samples = np.concatenate([chunk.samples for chunk in speech[self._spoken :]])
            self._blocks = {**self._blocks, str(self._made): pcm16(samples)}
            self._blocks.pop(str(self._made - KEPT), None)
            self._made, self._spoken, self._last = self._made + 1, len(speech), now
        return {"name": self._name, "rate": speech[0].rate, "blocks": self._blocks}


def pcm16(samples: np.ndarray) -> str:
    """float32 samples in -1..1 as base64 of little-endian 16-bit numbers."""
    return base64.b64encode((np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()).decode()
