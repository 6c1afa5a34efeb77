"""What a reply takes, counted while it is made."""

from __future__ import annotations

import resource
import time
from collections import Counter
from typing import TYPE_CHECKING

from omni.events import Usage
from omni.experts.stats import Counts

if TYPE_CHECKING:
    from omni.experts.residence import Experts  # brings torch along, which a remote engine does without


class Tally:
    """State: token counts by modality, seconds of speech, the times of firsts in seconds since the start."""

    def __init__(self, experts: Experts | None = None):
        self.experts = experts
        self.counted = experts.counts() if experts else Counts()
        self.started = time.perf_counter()
        self.tokens_in: Counter[str] = Counter()
        self.tokens_out: Counter[str] = Counter()
        self.times: dict[str, float] = {}
        self.speech_seconds = 0.0
        if self._on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats(experts.device)

    def note(self, name: str) -> None:
        """Remember when ``name`` happened first."""
        self.times.setdefault(name, time.perf_counter() - self.started)

    def usage(self) -> Usage:
        taken = (self.experts.counts() if self.experts else Counts()) - self.counted
        return Usage(
            tokens_in=dict(self.tokens_in),
            tokens_out=dict(self.tokens_out),
            seconds=time.perf_counter() - self.started,
            speech_seconds=self.speech_seconds,
            first_text=self.times.get("text"),
            first_speech=self.times.get("speech"),
            image=self.times.get("image"),
            clip=self.times.get("clip"),
            experts_used=taken.hits + taken.misses,
            experts_fetched=taken.misses,
            bytes_fetched=taken.bytes_read,
            peak_memory_mb=self._peak_bytes() / 2**20,
        )

    @property
    def _on_gpu(self) -> bool:
        return self.experts is not None and self.experts.device.type == "cuda"

    def _peak_bytes(self) -> int:
        """The GPU's memory at its fullest in this reply, or the process at its fullest so far."""
        if self._on_gpu:
            import torch

            return torch.cuda.max_memory_allocated(self.experts.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
