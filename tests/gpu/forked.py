"""A model that is forked before anything of CUDA was touched, as on ZeroGPU: ``forked.py CHECKPOINT OUT [--rehearse]``.

The parent holds threads and a warm tier in RAM, and in a rehearsal what takes the part of the GPU's memory too; each
child answers and writes its logits to OUT.N.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

import pytest
import tiny
import torch
from machines import Gpu, Pretend

from omni.experts.loading import bind, load_model
from omni.experts.residence import Experts
from omni.experts.slab import Slab

SECONDS = 60  # after which a child that hangs is ended


def answer(model: torch.nn.Module, device: torch.device, out: Path) -> int:
    try:
        with torch.inference_mode():
            torch.save(tiny.logits_of(model.to(device)).cpu(), out)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main(checkpoint: Path, out: Path, machine: Gpu) -> int:
    loaded = load_model(checkpoint, kernel=machine.kernel())
    experts = Experts(Slab.open(loaded.experts.slab.path), machine.kernel(), machine.home, [2], "lfu")
    experts.resize(experts.most_bytes // 2)
    bind(loaded.model, experts)
    [held] = experts.pools
    for cache in (held.below, held.cache) if machine.device.type == "cpu" else (held.below,):
        slots = cache.acquire([(0, 0), (1, 1)])
        for slot in slots:
            cache.wait(slot)
        cache.release(slots)
    if torch.cuda.is_initialized():
        print("something touched CUDA before the fork", file=sys.stderr)
        return 1
    for number in range(2):
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            os._exit(answer(loaded.model, machine.device, out.with_suffix(f".{number}")))
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            return abs(code)
    return 0


if __name__ == "__main__":
    here = Gpu()
    if "--rehearse" in sys.argv:
        here = Pretend()
        here.install(pytest.MonkeyPatch())
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), here))
