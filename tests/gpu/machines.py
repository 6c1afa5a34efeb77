"""Where these tests run: a GPU, or for a rehearsal on the CPU streams that are late on purpose.

``Pretend`` takes the same ways, through the tiers, the ring and its events: a copy is done by its stream's own thread,
some time after it was asked for, so what reads a slot or fills a stage without waiting is found out. What the
computation does is done at once, except where a test hands it to a stream.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest
import torch
from torch import Tensor

from omni.experts import staging
from omni.experts.kernels import Cuda
from omni.experts.residence import Experts


class Gpu:
    """The GPU that torch sees."""

    device = torch.device("cuda")
    home = device  # what ``Experts`` is told

    def kernel(self) -> Cuda:
        return Cuda(torch.bfloat16)

    def stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self.device)

    def on(self, stream: torch.cuda.Stream) -> contextlib.AbstractContextManager:
        """What is asked for within runs on ``stream``."""
        return torch.cuda.stream(stream)

    def do(self, work: Callable[[], object]) -> None:
        """Have the current stream do something."""
        work()

    def keep_busy(self) -> None:
        """Give the current stream some milliseconds of work that nothing depends on."""
        square = torch.randn(4096, 4096, device=self.device)
        for _ in range(8):
            square @ square

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Compute on a stream that is not the default one."""
        stream = self.stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield
        torch.cuda.current_stream().wait_stream(stream)

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def peak(self) -> int | None:
        """The most bytes that tensors took since ``forget_peak``; None where nobody counts them."""
        return torch.cuda.max_memory_allocated()

    def forget_peak(self) -> int:
        """The bytes that tensors take now."""
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()


class LateStream:
    """A thread that does what it is given, in order, and late."""

    device = torch.device("cpu")

    def __init__(self, *_):
        self._work: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._rng = random.Random(0)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self._work.get()()

    def do(self, work: Callable[[], object]) -> None:
        def late() -> None:
            time.sleep(self._rng.random() * 0.001)
            work()

        self._work.put(late)

    def record_event(self) -> LateEvent:
        event = LateEvent()
        self._work.put(event.set)
        return event

    def wait_event(self, event: LateEvent) -> None:
        self._work.put(event.wait)


class LateEvent(threading.Event):
    def synchronize(self) -> None:
        self.wait()


class PunctualStream:
    """The thread that computes: what it is given is done already, what it waits for it waits for here."""

    device = torch.device("cpu")

    def do(self, work: Callable[[], object]) -> None:
        work()

    def record_event(self) -> LateEvent:
        event = LateEvent()
        event.set()
        return event

    def wait_event(self, event: LateEvent) -> None:
        event.wait()


class LateCuda(Cuda):
    """Copies on the current stream, as a GPU does, and computes as a CPU does."""

    def settle(self, taken: Tensor, slot: Tensor, shape) -> None:
        mode = torch.is_inference_mode_enabled()  # of the thread that asks, not of the stream's

        def copy() -> None:
            with torch.inference_mode(mode):
                slot.copy_(taken)

        torch.cuda.current_stream().do(copy)

    def apply(self, x: Tensor, operand) -> Tensor:
        return super(Cuda, self).apply(x, operand)


class _Guise:
    """What ``Experts`` and ``Ring`` take for the device."""

    type = "cuda"


class Pretend(Gpu):
    """The CPU in the guise of a GPU, while ``installed``."""

    device = torch.device("cpu")
    home = _Guise()

    def __init__(self):
        self._here, self._default = threading.local(), PunctualStream()

    def kernel(self) -> LateCuda:
        return LateCuda(torch.bfloat16)

    def stream(self) -> LateStream:
        return LateStream()

    def current(self, _=None) -> LateStream | PunctualStream:
        return getattr(self._here, "stream", self._default)

    @contextlib.contextmanager
    def on(self, stream: LateStream) -> Iterator[None]:
        before, self._here.stream = self.current(), stream
        try:
            yield
        finally:
            self._here.stream = before

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        with self.on(PunctualStream()):
            yield

    def do(self, work: Callable[[], object]) -> None:
        self.current().do(work)

    def keep_busy(self) -> None:
        self.do(lambda: time.sleep(0.01))

    def synchronize(self) -> None:
        self.current().record_event().wait()

    def peak(self) -> None:
        return None

    def forget_peak(self) -> int:
        return 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put streams that are late in the place of CUDA's."""
        patch.setattr(torch.cuda, "Stream", LateStream)
        patch.setattr(torch.cuda, "stream", self.on)
        patch.setattr(torch.cuda, "current_stream", self.current)
        patch.setattr(torch.cuda, "default_stream", lambda _: self._default)
        patch.setattr(staging, "_pinned", lambda count, size: torch.empty(count, size, dtype=torch.uint8))
        for owner, name in ((staging.Ring, "room"), (Experts, "_device_memory")):
            patch.setattr(owner, name, lambda _, size: torch.full((size,), 77, dtype=torch.uint8), raising=False)
        staging._stream_of_copies.cache_clear()
