"""The C files beside this one, compiled for this very processor when first needed, kept in the user's cache.

Where there is no C compiler, or what it makes gives wrong numbers, ``library`` is None and another way is taken.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from omni.experts import record
from omni.experts.record import ExpertShape

log = logging.getLogger(__name__)
HEADER, *SOURCES = (Path(__file__).with_name(name) for name in ("products.h", "nf4.c", "token.c", "layer.c", "snake.c"))
COMMON = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
FLAGS = (("-march=native", "-fopenmp"), ("-march=native",), ())  # the first set that the compiler takes
COMPILE_SECONDS = 60
TOLERANCE = 0.04  # of the length of what an expert gives: token and gated token each rounded to 8 bits


@cache
def library() -> ctypes.CDLL | None:
    """The compiled products, tried on a small expert first; None where they cannot be had."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)
    if compiler is None:
        log.info("there is no C compiler: 4-bit products take another way")
        return None
    try:
        loaded = load(compiled(compiler, cache_folder()))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the 4-bit products could not be compiled (%s): another way is taken", error)
        return None
    if not is_right(loaded):
        log.warning("the compiled 4-bit products give wrong numbers here: they are not used")
        return None
    return loaded


def cache_folder() -> Path:
    """The user's own folder for what can be made again; a fresh one for this process where it cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "omni-playground"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="omni-"))


def compiled(compiler: str, folder: Path, flag_sets: tuple[tuple[str, ...], ...] = FLAGS) -> Path:
    """The shared library for this processor, made in ``folder`` where it is not there yet.

    Raises subprocess.SubprocessError where the compiler fails, OSError where nothing can be written.
    """
    made_of = [
        *(source.read_bytes() for source in (HEADER, *SOURCES)),
        compiler.encode(),
        repr(flag_sets).encode(),
        _processor().encode(),
    ]
    path = folder / f"nf4-{hashlib.sha256(b'|'.join(made_of)).hexdigest()[:16]}.so"
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        made = Path(inside) / path.name
        for flags in flag_sets:
            command = [compiler, *COMMON, *flags, *map(str, SOURCES), "-o", str(made), "-lm"]
            done = subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS)
            if done.returncode == 0:
                os.replace(made, path)
                return path
    raise subprocess.SubprocessError(done.stderr.decode(errors="replace").strip()[:500])


def _processor() -> str:
    """What the processor is and can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "|".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def load(path: Path) -> ctypes.CDLL:
    """The library at ``path``, its functions declared. Raises OSError."""
    loaded = ctypes.CDLL(str(path))
    size, number, address, whole = ctypes.c_long, ctypes.c_float, ctypes.c_void_p, ctypes.c_int
    loaded.nf4_product.argtypes = [size, size, size, address, address, address, address, whole]
    loaded.nf4_products.argtypes = [size, address, size, address, address, whole]
    loaded.nf4_experts.argtypes = [size, size, size, address, address, address, whole]
    loaded.rms_norm.argtypes = [size, size, address, address, number, address]
    loaded.turn_heads.argtypes = [size, size, address, address, number, address, address, address]
    loaded.attend.argtypes = [size] * 4 + [address, address, size, address, size, number, address, whole]
    loaded.route.argtypes = [size, size, size, whole, address, address, address, address, address, whole]
    loaded.decoder_layer.argtypes = [address] * 5 + [size, address, size, size, address, address, whole]
    loaded.snake.argtypes = [size, size, address, address, address, address, whole]
    loaded.snake.restype = loaded.rms_norm.restype = loaded.turn_heads.restype = None
    return loaded


def is_right(loaded: ctypes.CDLL) -> bool:
    """Whether a small expert gives what the same numbers give in float32."""
    shape, generator = ExpertShape(192, 128), torch.Generator().manual_seed(0)
    held = torch.zeros(shape.record_bytes, dtype=torch.uint8)
    weights = torch.randn(256, 192, generator=generator) / 8, torch.randn(192, 128, generator=generator) / 8
    record.write(held, shape, *weights, "rows")
    gate_up, down = (record.dequantise(held, matrix, "rows", torch.float32) for matrix in shape.matrices)
    x, made = torch.randn(192, generator=generator), torch.zeros(192)
    gate, up = (gate_up @ x).chunk(2)
    true = down @ (F.silu(gate) * up)
    gate_up, down = (places(matrix.packed(held), matrix.absmax(held)) for matrix in shape.matrices)
    experts = addresses(gate_up + down[:2])
    failed = loaded.nf4_experts(1, 192, 128, x.data_ptr(), experts, made.data_ptr(), torch.get_num_threads())
    return not failed and bool((made - true).norm() < TOLERANCE * true.norm())


def places(packed: Tensor, absmax: Tensor) -> tuple[int, int, int, int]:
    """The addresses of the bytes and the block maxima of a matrix in rows, and of those of the lower half of its rows.

    An expert is its gate_up's four, for the gate stands above the up, and its down's first two.
    """
    bytes_at, maxima_at = packed.data_ptr(), absmax.data_ptr()
    return bytes_at, maxima_at, bytes_at + packed.nbytes // 2, maxima_at + absmax.nbytes // 2


def addresses(listed: Sequence[int]) -> ctypes.Array:
    """Addresses, and whole numbers as wide as one, for a function that takes an array of structures of them."""
    return (ctypes.c_void_p * len(listed))(*listed)
