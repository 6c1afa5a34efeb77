"""Weights in the checkpoint's mapped files: pages that were read and are not needed any more go back to the system.

from_pretrained maps the files, and a page of them that was read once counts as this process's memory until all memory
is short, even where its weight has long been replaced.
"""

from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path

from torch import Tensor

MAPS = Path("/proc/self/maps")
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) .*\.safetensors$")


class MappedFiles:
    """Where safetensors files are mapped into this process; nowhere on a system that does not tell."""

    def __init__(self):
        lines = MAPS.read_text().splitlines() if MAPS.exists() else []
        found = [match.groups() for line in lines if (match := _LINE.match(line))]
        self.spans = [range(int(start, 16), int(end, 16)) for start, end in found]
        self._advise = ctypes.CDLL(None, use_errno=True).madvise if found else None

    def give_back(self, weight: Tensor) -> None:
        """Let go of the whole pages of a weight that lies in a mapped file; another read brings them again."""
        start, end = weight.data_ptr(), weight.data_ptr() + weight.nbytes
        if not any(start in span and end - 1 in span for span in self.spans):
            return
        page = mmap.PAGESIZE
        first, last = -(-start // page) * page, end // page * page
        if first < last:
            self._advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)
