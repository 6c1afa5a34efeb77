"""From RAM to the GPU: a small ring of pinned memory and a stream of its own: copies run beside the computation.

Pinning all experts would take their size in memory that cannot be swapped, and seconds in a process that lives for one
request; a ring of a few records reaches the same speed. Everything is made when it is first used.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from omni.experts.kernels import Kernel
from omni.experts.record import Record

STAGES = 8  # records on their way at once


class Ring:
    """Pinned stages that are used in turn. State: the stages, for each the event of its last copy, and the stream."""

    def __init__(self, record_bytes: int, device: torch.device):
        self.record_bytes, self.device = record_bytes, device
        self._stages: Tensor | None = None
        self._done: list[torch.cuda.Event | None] = [None] * STAGES
        self._stream: torch.cuda.Stream | None = None
        self._next = 0
        self._lock = threading.Lock()

    def send(self, record: Tensor, memory: Tensor, kernel: Kernel, shape: Record) -> torch.cuda.Event:
        """Copy a record (bytes,) in RAM to ``memory`` on the GPU; the event that says when it is there.

        The copy waits for what the computation has been given so far, since that may still read the slot.
        """
        with self._lock, torch.cuda.device(self.device):
            if self._stages is None:
                self._stages = torch.empty(STAGES, self.record_bytes, dtype=torch.uint8, pin_memory=True)
                self._stream = torch.cuda.Stream(self.device)
            turn, self._next = self._next, (self._next + 1) % STAGES
            if self._done[turn] is not None:
                self._done[turn].synchronize()  # the stage is still being sent
            stage = self._stages[turn]
            stage.copy_(record)
            self._stream.wait_stream(torch.cuda.default_stream(self.device))
            with torch.cuda.stream(self._stream):
                kernel.settle(stage, memory, shape)
                event = torch.cuda.Event()
                event.record(self._stream)
            self._done[turn] = event
            return event

    def arrive(self, event: torch.cuda.Event | None) -> None:
        """Have the computation wait for a copy, on the GPU, not here."""
        if event is not None:
            torch.cuda.current_stream(self.device).wait_event(event)
