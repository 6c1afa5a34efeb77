"""OpenMP's teams of threads, of which one at a time works well.

Each thread that computes has a team of its own. Where the teams together have more threads than there are processors,
GNU's OpenMP lets none of them wait actively for the next piece of work, and wakes them through the kernel each time: a
token of Primer then takes three times as long. So a thread that has computed, and will not for a while, disbands its
team.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

MAPS = Path("/proc/self/maps")
_HARD = 2  # omp_pause_hard: threads and all
_LIBRARY = re.compile(r"(?m)\s(/\S*libgomp[^/\n]*)$")


def disband() -> None:
    """End the calling thread's team; its next parallel operation forms one again. Not from within such an operation."""
    libraries = set(_LIBRARY.findall(MAPS.read_text())) if MAPS.exists() else set()
    for path in libraries:
        if pause := getattr(ctypes.CDLL(path), "omp_pause_resource_all", None):
            pause(_HARD)
