"""How fast this machine reads memory, and so how fast a decode step could be that only reads its weights."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

GIBIBYTES = 2  # of the buffer: several times the largest cache there is
COLUMNS = 4096


def measure(threads: int = 2, repeats: int = 10, gibibytes: float = GIBIBYTES) -> dict[str, float]:
    """GB/s of the fastest of ``repeats`` reads of a buffer by ``threads`` threads, each tried as several kinds of read.

    numpy asks for huge pages where there are any, so this is an upper bound for weights in pages of 4 KiB.
    """
    torch.set_num_threads(threads)
    buffer = torch.from_numpy(np.ones(int(gibibytes * 2**30) // 4 // COLUMNS * COLUMNS, np.float32))
    rows, vector = buffer.view(-1, COLUMNS), torch.ones(COLUMNS)
    halves = [half.view(-1, COLUMNS) for half in buffer.chunk(2)]
    reads: dict[str, Callable[[], object]] = {
        "sum": buffer.sum,
        "largest": buffer.max,
        "product": lambda: rows @ vector,
        "dot": lambda: torch.dot(halves[0].flatten(), halves[1].flatten()),
    }
    fastest = {}
    for name, read in reads.items():
        read()
        taken = []
        for _ in range(repeats):
            started = time.perf_counter()
            read()
            taken.append(time.perf_counter() - started)
        fastest[f"{name}_gb_s"] = round(buffer.nbytes / min(taken) / 1e9, 2)
    return {"gb_s": max(fastest.values()), **fastest}
