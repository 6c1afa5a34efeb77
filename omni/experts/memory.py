"""Memory that is not needed any more goes back to the system, for on a CPU it is what experts live in.

from_pretrained maps a checkpoint's files, and a page of them that was read once counts as this process's memory until
all memory is short, even where its weight has long been replaced. And the C library keeps what was freed: 1.7 GB after
Qwen3-Omni has heard a minute of sound, and 4 GB more by the time that its 48 layers have read it, since what a layer
leaves behind, keys and values, lies in the gaps that the next layer's large blocks would have needed.
"""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

MAPS = Path("/proc/self/maps")
APART = 1 << 20  # bytes from which on a block of a prompt has pages of its own
USUAL = 32 << 20  # the same at other times: where glibc's own adaptation ends, which stops once it is told a limit
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # parameters of mallopt
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) .*\.safetensors$")


def give_back_what_is_free() -> None:
    """Let go of the memory that was freed and is kept for later, in some 50 ms. Only glibc has a way to ask for it."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(ctypes.c_size_t(0))


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Within it a large block has pages of its own, which go back when it is freed; the C library's heap hardly grows.

    Holds for the whole process. Fresh pages cost time (a tenth of a long prompt's), so that it is for prompts only.
    """
    tell = getattr(ctypes.CDLL(None), "mallopt", None)
    if not tell:
        yield
        return
    tell(_MMAP_THRESHOLD, APART)
    try:
        yield
    finally:
        tell(_MMAP_THRESHOLD, USUAL)
        tell(_TRIM_THRESHOLD, 2 * USUAL)
        give_back_what_is_free()


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
