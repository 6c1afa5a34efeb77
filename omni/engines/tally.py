"""What a reply takes, counted while it is made, and where it is asked for, what goes on inside."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from omni.engines.energy import Meter
from omni.engines.trace import Trace
from omni.events import Span, Telemetry, Usage
from omni.experts.stats import Counts

if TYPE_CHECKING:
    import torch

    from omni.experts.residence import Experts  # brings torch along, which a remote engine does without

EVERY = 0.25  # seconds between two pieces of telemetry
STAGES = {"clip": "video"}  # the modality that a first belongs to, where it is called otherwise


class Tally:
    """State: token counts by modality, seconds of speech, the times of firsts and of stages in seconds since the start.

    With ``telemetry`` also the trace of the tokens. ``feed`` brings into it what came since it was called last.
    """

    def __init__(self, experts: Experts | None = None, telemetry: bool = False):
        self.experts = experts
        self.counted = experts.counts() if experts else Counts()
        self.gpu: torch.device | None = experts.device if experts and experts.device.type == "cuda" else None
        self.tokens_in: Counter[str] = Counter()
        self.tokens_out: Counter[str] = Counter()
        self.times: dict[str, float] = {}
        self.speech_seconds = 0.0
        self.trace: Trace | None = None
        self.feed: Callable[[], None] = lambda: None
        if experts and telemetry:
            shapes = {held.pool.name: (len(held.pool.layers), held.top_k, held.pool.experts) for held in experts.pools}
            self.trace = Trace(shapes)
        if self.gpu is not None:
            import torch

            torch.cuda.reset_peak_memory_stats(self.gpu)
        self.meter = Meter(self.gpu)
        self.started = time.perf_counter()
        self._stages: dict[str, list[float]] = {}
        self._last = self._told = 0.0

    def made(self, modality: str) -> None:
        """One more token of the reply. Its modality's stage began where whatever came before it ended."""
        self.tokens_out[modality] += 1
        self._reach(modality)

    def note(self, name: str) -> None:
        """Remember when ``name`` happened first; its stage lasts until now."""
        self.times.setdefault(name, self._now())
        self._reach(STAGES.get(name, name))

    def telemetry(self, last: bool = False) -> Iterator[Telemetry]:
        """What went on since the last time, where it is asked for and it is time for it."""
        if self.trace is None or not (last or self._now() - self._told >= EVERY):
            return
        self.feed()
        taken = self._taken()
        self._told = self._now()
        yield Telemetry(
            seconds=self._told,
            routed=self.trace.rest() if last else self.trace.take(),
            tokens_out=dict(self.tokens_out),
            experts_used=taken.hits + taken.misses,
            experts_fetched=taken.misses,
            bytes_fetched=taken.bytes_read,
            stalled=taken.stalled,
            held_bytes=self.experts.bytes_held,
            budget_bytes=self.experts.budget,
        )

    def usage(self) -> Usage:
        taken = self._taken()
        return Usage(
            tokens_in=dict(self.tokens_in),
            tokens_out=dict(self.tokens_out),
            seconds=self._now(),
            speech_seconds=self.speech_seconds,
            first_text=self.times.get("text"),
            first_speech=self.times.get("speech"),
            image=self.times.get("image"),
            clip=self.times.get("clip"),
            experts_used=taken.hits + taken.misses,
            experts_fetched=taken.misses,
            bytes_fetched=taken.bytes_read,
            stalled=taken.stalled,
            peak_memory_mb=self._peak_bytes() / 2**20,
            spans=tuple(Span(name, *ends) for name, ends in self._stages.items()),
            joules=self.meter.joules(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        """Whatever logs routing for this reply stops."""
        if self.trace is not None:
            for held in self.experts.pools:
                held.routing.close()

    def _reach(self, stage: str) -> None:
        """The stage lasts until now."""
        now = self._now()
        if stage in self._stages:
            self._stages[stage][1] = now
        else:
            self._stages[stage] = [self._last, now]
        self._last = now

    def _now(self) -> float:
        return time.perf_counter() - self.started

    def _taken(self) -> Counts:
        return (self.experts.counts() if self.experts else Counts()) - self.counted

    def _peak_bytes(self) -> int:
        """The GPU's memory at its fullest in this reply, or the process at its fullest so far."""
        if self.gpu is not None:
            import torch

            return torch.cuda.max_memory_allocated(self.gpu)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
