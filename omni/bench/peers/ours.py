"""Our own arm: the experts in 4 bits under a budget, the linear layers of the rest in 4 bits as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from omni.bench.peers.decoder import decoder
from omni.bench.peers.shape import Shape
from omni.bench.peers.steps import timed
from omni.experts.context import roomy_cache
from omni.experts.loading import Loaded, load_model
from omni.experts.policy import DEFAULT, belady


def write(shape: Shape, checkpoint: str, path: str) -> dict:
    """Convert the experts of ``checkpoint`` into a slab in the folder ``path``."""
    loaded = load_model(checkpoint, folder=Path(path))
    written = loaded.experts.slab.path.stat().st_size
    loaded.experts.close()
    return {"gigabytes": round(written / 1e9, 3)}


def run(
    shape: Shape, checkpoint: str, slab: str, budget: int | None = None, steps: int = 60, warm_up: int = 20,
    threads: int = 2, zipf: float = 0.0, policy: str = DEFAULT,
) -> dict:  # fmt: skip
    """Decode with experts from ``slab``, at most ``budget`` bytes of them in memory (None: all of them).

    Answers ``seconds_per_token``, ``experts_bytes`` in memory and, with a budget, ``hit_rate`` and the
    ``belady_hit_rate`` of the same trace, warm-up included.
    """
    torch.set_num_threads(threads)
    loaded = load_model(checkpoint, memory=budget, folder=Path(slab), four_bit_dense=True, policy=policy)
    if budget is None:
        bring(loaded)
    [held] = loaded.experts.pools
    held.routing.open()
    measured = timed(decoder(loaded.model, roomy_cache(loaded.model.config)), shape, warm_up, steps, zipf)
    answer = {**measured, "experts_bytes": loaded.experts.bytes_held}
    if budget is not None:
        steps = np.concatenate(held.routing.take()).tolist()
        trace = [[(layer, e) for e in chosen] for step in steps for layer, chosen in enumerate(step)]
        counts = held.stats.total()
        kept = (counts.hits - counts.prefetched) / max(1, counts.hits + counts.misses)  # Belady fetches nothing ahead
        answer |= {"hit_rate": kept, "belady_hit_rate": belady(trace, held.cache.target).rate}
        answer |= {"stalled_s": counts.stalled, "read_gb": counts.bytes_read / 1e9, "foresight": held.foresight.on}
    return answer


def bring(loaded: Loaded) -> None:
    """Read as many experts as there is room for, as a long conversation would."""
    for held in loaded.experts.pools:
        keys = [(layer, expert) for layer in range(len(held.pool.layers)) for expert in range(held.pool.experts)]
        for key in keys[: held.cache.target]:
            slots = held.cache.acquire([key])
            held.cache.wait(slots[0])
            held.cache.release(slots)
