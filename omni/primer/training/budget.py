"""Training by the clock or by steps: how far along a run is, its learning rate, and checkpoints that survive a kill."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch


class Budget:
    """Minutes of a run, counted over interruptions, or steps, which make two runs the same. ``share``: 0 to 1.

    State: when it began, and ``step``, the steps that were taken, which its owner counts.
    """

    def __init__(self, minutes: float, spent: float = 0.0, steps: int | None = None, step: int = 0):
        self.seconds, self.steps, self.step = minutes * 60, steps, step
        self._start = time.monotonic() - spent

    @property
    def spent(self) -> float:
        """Seconds of work so far."""
        return time.monotonic() - self._start

    @property
    def share(self) -> float:
        done = self.spent / self.seconds if self.steps is None else self.step / self.steps
        return min(1.0, done)

    def rate(self, warmup: float = 0.02, decay: float = 0.4) -> float:
        """Learning rate as a share of its peak: linear warm-up, flat, linear to zero in the last ``decay``."""
        return min(1.0, self.share / warmup + 1e-3, (1 - self.share) / decay)


def save_checkpoint(path: Path, state: dict) -> None:
    """Write ``state`` under a temporary name and rename it, so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict | None:
    """The state saved at ``path``, or None where there is none."""
    return torch.load(path, weights_only=True) if path.exists() else None
