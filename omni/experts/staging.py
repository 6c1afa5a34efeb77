"""From RAM to the GPU: a small ring of pinned memory and a stream of its own: copies run beside the computation.

Pinning all experts would take their size in memory that cannot be swapped, and seconds in a process that lives for one
request; a ring of a few records will do. Everything is made when it is first used, by the process that uses it.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from queue import SimpleQueue

import torch
from torch import Tensor

from omni.experts.kernels import Kernel
from omni.experts.record import Record

STAGES = 8  # records on their way at once


class Ring:
    """Pinned stages that are used in turn, and the stream on which they are emptied.

    State: the process that made them; the stages that nobody fills, each with the event of its last copy; the stream.
    Where the computation moves to another stream, that one has to wait for the one before, as everywhere in torch.
    """

    def __init__(self, record_bytes: int, device: torch.device):
        self.record_bytes, self.device = record_bytes, device
        self._process: int | None = None
        self._stages: SimpleQueue[tuple[Tensor, torch.cuda.Event | None]] = SimpleQueue()
        self._stream: torch.cuda.Stream | None = None
        self._lock = threading.Lock()

    def room(self, size: int) -> Tensor:
        """Memory on the GPU for slots, (size,) uint8, to be read by the stream of the thread that asks.

        It belongs to the stream of the copies: once it is given back nobody else writes there while a copy is under
        way, and nobody at all before what that stream was given by then has been read.
        """
        stream = self._ready()
        with torch.cuda.stream(stream):
            memory = torch.empty(size, dtype=torch.uint8, device=stream.device)
        memory.record_stream(torch.cuda.current_stream(stream.device))
        return memory

    def mark(self) -> torch.cuda.Event:
        """How far the computation of the thread that asks has come, for ``send``: up to there a slot may be read."""
        return torch.cuda.current_stream(self._ready().device).record_event()

    def send(
        self, record: Tensor, memory: Tensor, kernel: Kernel, shape: Record, after: torch.cuda.Event
    ) -> torch.cuda.Event:
        """Copy a record (bytes,) in RAM to ``memory`` on the GPU; the event that says when it is there.

        The copy waits for ``after``. Any thread may send.
        """
        stream = self._ready()
        stage, sent = self._stages.get()
        try:
            if sent is not None:
                sent.synchronize()  # the stage is still being emptied
            with torch.inference_mode(), torch.cuda.stream(stream):  # a slot may have been made in inference mode
                stage.copy_(record)
                stream.wait_event(after)
                kernel.settle(stage, memory, shape)
                sent = stream.record_event()
        finally:
            self._stages.put((stage, sent))
        return sent

    def arrive(self, event: torch.cuda.Event | None) -> None:
        """Have the computation wait for a copy, on the GPU, not here."""
        if event is not None:
            torch.cuda.current_stream(self.device).wait_event(event)

    def _ready(self) -> torch.cuda.Stream:
        """The stream of the copies. A forked process makes stages of its own."""
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._stream = _stream_of_copies(os.getpid(), self.device)
                    self._stages = SimpleQueue()
                    for stage in _pinned(STAGES, self.record_bytes):
                        self._stages.put((stage, None))
                    self._process = os.getpid()
        return self._stream


@cache
def _stream_of_copies(process: int, device: torch.device) -> torch.cuda.Stream:
    """One for all pools: torch keeps freed memory by stream, so what one pool gives back the next one can take."""
    return torch.cuda.Stream(device)


def _pinned(count: int, size: int) -> Tensor:
    """Memory that a GPU reads by itself, (count, size) uint8."""
    return torch.empty(count, size, dtype=torch.uint8, device="cpu", pin_memory=True)
