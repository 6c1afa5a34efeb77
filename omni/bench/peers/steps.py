"""Decode steps against the clock, and what the process holds in memory. Knows nothing of torch or of any arm."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from omni.bench.peers.shape import Shape, tokens

MEMORY = {"VmRSS": "rss_mb", "RssAnon": "anon_mb", "VmHWM": "peak_rss_mb"}  # lines of /proc/self/status


def timed(step: Callable[[int], float], shape: Shape, warm_up: int, steps: int, zipf: float = 0.0) -> dict:
    """Seconds of each of ``steps`` decode steps after ``warm_up`` others, and the memory of the process with its model.

    ``step`` takes a token and returns one logit; the model must live as long as it does.
    Raises RuntimeError where a logit is not a number: then something was measured, but not a model.
    """
    taken = []
    for token in tokens(shape, warm_up + steps, zipf):
        started = time.perf_counter()
        logit = step(token)
        taken.append(time.perf_counter() - started)
        if not math.isfinite(logit):
            raise RuntimeError("A logit is not a number: the random weights do not suit this arm.")
    return {"seconds_per_token": taken[warm_up:], **memory()}


def memory() -> dict[str, float]:
    """Megabytes of this process: resident, the anonymous part of it, and the most that was ever resident."""
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {MEMORY[key]: round(int(value.split()[0]) / 1024, 1) for key, _, value in lines if key in MEMORY}
