"""Weights in mapped files: what was read goes back, and comes again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from omni.experts import memory
from omni.experts.memory import MappedFiles
from omni.figures import ROOT

pytestmark = pytest.mark.skipif(not memory.MAPS.exists(), reason="this system does not tell what is mapped")


def _resident_kb(name: str) -> int:
    """Kilobytes of a mapped file that are this process's memory."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            ours = name in line
        elif ours and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def test_what_was_read_goes_back_and_comes_again(tmp_path):
    saved = torch.randn(1024, 2048)
    save_file({"kept": saved + 1, "packed": saved}, tmp_path / "mapped.safetensors")
    with safe_open(tmp_path / "mapped.safetensors", "pt") as file:
        kept, packed = file.get_tensor("kept"), file.get_tensor("packed")
    assert torch.equal(packed, saved) and torch.equal(kept, saved + 1)
    before = _resident_kb("mapped.safetensors")
    MappedFiles().give_back(packed)
    given = before - _resident_kb("mapped.safetensors")
    assert 8192 - 8 <= given <= 8192  # whole pages of the one, none of the other
    assert torch.equal(packed, saved) and torch.equal(kept, saved + 1)


def test_a_weight_of_its_own_memory_is_left_alone(tmp_path):
    save_file({"other": torch.ones(4096)}, tmp_path / "mapped.safetensors")
    with safe_open(tmp_path / "mapped.safetensors", "pt") as file:
        other = file.get_tensor("other")
        weight = torch.arange(1 << 20)
        MappedFiles().give_back(weight)
    assert torch.equal(weight, torch.arange(1 << 20)) and other.sum() == 4096


def test_a_system_that_does_not_tell_keeps_all(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MAPS", tmp_path / "nowhere")
    weight = torch.ones(4096)
    MappedFiles().give_back(weight)
    assert weight.sum() == 4096


def test_what_is_freed_goes_back():
    """Pieces below glibc's own limit for large ones lie in its heap, and stay there when they are freed."""
    pieces = [bytearray(100_000) for _ in range(2000)]
    kept = pieces[::100]
    del pieces
    before = _resident_kb("[heap]")
    memory.give_back_what_is_free()
    assert before - _resident_kb("[heap]") > 100_000
    assert len(kept) == 20


def heap_growth() -> int:
    """Kilobytes by which the heap grows for forty blocks of eight megabytes."""
    before = _resident_kb("[heap]")
    kept = [b"x" * (8 << 20) for _ in range(40)]
    grown = _resident_kb("[heap]") - before
    del kept
    return grown


def test_large_blocks_lie_apart_for_as_long_as_it_is_asked():
    """In a process of its own: in a long one the heap has room left over, and other threads use it."""
    program = """
from omni.experts.memory import large_blocks_apart
from test_experts_memory import heap_growth
with large_blocks_apart():
    apart = heap_growth()
print(apart, heap_growth())
"""
    paths = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    apart, usual = map(int, done.stdout.split())
    assert apart < 8_000
    assert usual > 100_000
