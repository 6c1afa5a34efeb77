"""How fast a checkpoint becomes a slab, and how much memory it takes to load it."""

from __future__ import annotations

import shutil
import statistics
import threading
import time
from pathlib import Path

import torch
from transformers import AutoConfig

from omni.bench.peers.shape import BF16_BYTES, Shape
from omni.bench.peers.steps import memory
from omni.experts import conversion, nf4
from omni.experts.kernels import best_kernel
from omni.experts.loading import load_model, pools_of, skeleton

GLANCE = 0.002  # seconds between two looks at the memory of the process


def convert(shape: Shape, checkpoint: str, path: str, threads: int = 2) -> dict:
    """GB/s of 16-bit weights, ``quantised_gb_s`` by ``nf4.quantise`` alone and ``converted_gb_s`` from file to file.

    What is quantised alone are the experts of one layer, in memory and of the dtype of the file; the conversion reads
    the checkpoint, writes a slab in the folder ``path``, with its checksums, and deletes it again.
    """
    torch.set_num_threads(threads)
    [pool] = pools_of(skeleton(AutoConfig.from_pretrained(checkpoint)))
    with conversion.Checkpoint(Path(checkpoint)) as tensors:
        source = conversion.find_source(tensors, pool.layers[0], pool.experts, pool.shape)
        layer = [[half.clone() for half in source.read(tensors, expert, pool.shape)] for expert in range(pool.experts)]
    taken = []
    for halves in layer:
        started = time.perf_counter()
        for half in halves:
            nf4.quantise(half)
        taken.append(time.perf_counter() - started)
    alone = statistics.median(taken) * pool.experts  # the first ones only find their memory
    layout = best_kernel([pool.shape], torch.device("cpu"), torch.bfloat16).layout
    started = time.perf_counter()
    conversion.convert(Path(checkpoint), Path(path) / "converted.slab", [pool], layout=layout)
    whole = time.perf_counter() - started
    shutil.rmtree(path)
    size = shape.experts_bytes(BF16_BYTES) / 1e9
    return {"quantised_gb_s": size / shape.layers / alone, "converted_gb_s": size / whole}


def load(shape: Shape, checkpoint: str, path: str, threads: int = 2) -> dict:
    """Anonymous memory in MB while the checkpoint is converted, its slab in the folder ``path``, and loaded.

    Answers ``before_mb``, the ``most_mb`` that was seen, and ``stays_mb`` when all is loaded and no expert is in
    memory. The dense part stays in the mapped file, so that none of these hold it.
    """
    torch.set_num_threads(threads)
    before, glances, over = memory()["anon_mb"], [], threading.Event()

    def watch() -> None:
        while not over.wait(GLANCE):
            glances.append(memory()["anon_mb"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    loaded = load_model(checkpoint, folder=Path(path))
    over.set()
    watcher.join()
    stays = memory()["anon_mb"]
    loaded.experts.close()
    shutil.rmtree(path)
    return {"before_mb": before, "most_mb": max(glances), "stays_mb": stays}
