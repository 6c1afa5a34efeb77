"""The products in C: compiled for every processor that they know, with odd numbers, and where they cannot be had."""

from __future__ import annotations

import ctypes
import logging
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from omni.experts import native, record
from omni.experts.record import ExpertShape

COMPILER = shutil.which("cc")
X86 = platform.machine() == "x86_64"
WAYS = {  # how each way through ``dot`` is compiled
    "here": ("-march=native", "-fopenmp"),
    "avx2": ("-mavx2", "-mfma", "-fopenmp"),
    "any processor": (),
}
SHAPES = [ExpertShape(64, 64), ExpertShape(192, 128), ExpertShape(256, 320), ExpertShape(1024, 64)]

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The library compiled one way."""
    folder = tmp_path_factory.mktemp("native")

    def build(way: str) -> ctypes.CDLL:
        if way == "avx2" and not (X86 and "avx2" in Path("/proc/cpuinfo").read_text()):
            pytest.skip("this processor has no AVX2")
        return native.load(native.compiled(COMPILER, folder, (WAYS[way],)))

    return build


def expert(shape: ExpertShape, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(shape.record_bytes, dtype=torch.uint8)
    record.write(
        held, shape, *(torch.randn(size, generator=generator) / size[1] ** 0.5 for size in shape.sizes), "rows"
    )
    return held


def places(shape: ExpertShape, held: Tensor) -> tuple[int, ...]:
    """Those of gate, up and down."""
    gate_up, down = (native.places(matrix.packed(held), matrix.absmax(held)) for matrix in shape.matrices)
    return gate_up + down[:2]


def through(library: ctypes.CDLL, shape: ExpertShape, held: list[Tensor], x: Tensor, threads: int = 2) -> Tensor:
    out = torch.full((len(held), shape.hidden), 7.0)
    addresses = native.addresses([place for one in held for place in places(shape, one)])
    assert not library.nf4_experts(
        len(held), shape.hidden, shape.inner, x.data_ptr(), addresses, out.data_ptr(), threads
    )
    return out


def times(library: ctypes.CDLL, held: Tensor, shape: ExpertShape, x: Tensor, threads: int = 2) -> Tensor:
    """x (T, hidden) times gate and up."""
    matrix, out = shape.gate_up, torch.full((len(x), 2 * shape.inner), 7.0)
    packed, absmax = matrix.packed(held).data_ptr(), matrix.absmax(held).data_ptr()
    assert not library.nf4_product(
        len(x), matrix.rows, matrix.columns, x.data_ptr(), packed, absmax, out.data_ptr(), threads
    )
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_what_floats_give(way, shape, built):
    held = [expert(shape, seed) for seed in (1, 2)]
    x = torch.randn(shape.hidden, generator=torch.Generator().manual_seed(3))
    made = through(built(way), shape, held, x)
    for row, one in zip(made, held, strict=True):
        gate_up, down = (record.dequantise(one, matrix, "rows", torch.float32) for matrix in shape.matrices)
        gate, up = (gate_up @ x).chunk(2)
        true = down @ (F.silu(gate) * up)
        assert (row - true).norm() < 0.03 * true.norm()


@pytest.mark.parametrize("way", [way for way in WAYS if way != "here"])
def test_all_ways_round_alike(way, built):
    """Whole numbers are summed exactly, so only the order of the blocks' sums differs."""
    shape = SHAPES[2]
    held, x = expert(shape), torch.randn(3, shape.hidden, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(
        times(built(way), held, shape, x), times(built("here"), held, shape, x), rtol=1e-5, atol=1e-5
    )


def test_the_number_of_threads_and_of_tokens_changes_no_bit(built):
    library, shape = built("here"), SHAPES[2]
    held, x = expert(shape), torch.randn(5, shape.hidden, generator=torch.Generator().manual_seed(5))
    made = times(library, held, shape, x, threads=1)
    assert torch.equal(made, times(library, held, shape, x, threads=4))
    assert torch.equal(made, torch.cat([times(library, held, shape, row) for row in x.split(1)]))
    experts = [expert(shape, seed) for seed in (6, 7, 8)]
    together = through(library, shape, experts, x[0])
    assert torch.equal(together, torch.cat([through(library, shape, [one], x[0], threads=1) for one in experts]))


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_finite_does_not_pass_for_a_number(way, odd, built):
    shape = SHAPES[1]
    x = torch.ones(1, shape.hidden)
    x[0, 70] = odd
    assert times(built(way), expert(shape), shape, x).isnan().all()


@pytest.mark.parametrize("scale", [0.0, 1e-42, 1e-30, 1e30])
@pytest.mark.parametrize("way", WAYS)
def test_activations_of_any_size(way, scale, built):
    shape = SHAPES[1]
    held, x = expert(shape), torch.randn(1, shape.hidden, generator=torch.Generator().manual_seed(9))
    made, plain = times(built(way), held, shape, x * scale), times(built(way), held, shape, x)
    torch.testing.assert_close(made, plain * scale, rtol=1e-4, atol=1e-30)


def test_the_library_is_compiled_once(tmp_path):
    first = native.compiled(COMPILER, tmp_path)
    made_at = first.stat().st_mtime_ns
    assert native.compiled(COMPILER, tmp_path) == first
    assert first.stat().st_mtime_ns == made_at
    assert list(tmp_path.iterdir()) == [first]


def test_flags_that_the_compiler_does_not_know_are_left_out(tmp_path):
    made = native.compiled(COMPILER, tmp_path, (("-march=abacus",), ()))
    assert native.is_right(native.load(made))


def test_a_compiler_that_fails_says_why(tmp_path):
    with pytest.raises(subprocess.SubprocessError, match="abacus"):
        native.compiled(COMPILER, tmp_path, (("-march=abacus",),))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def fresh():
    """``library`` as if it was asked for the first time."""
    native.library.cache_clear()
    yield native.library
    native.library.cache_clear()


def test_without_a_compiler_there_is_no_library(monkeypatch, fresh):
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    assert fresh() is None


def test_a_library_with_wrong_numbers_is_not_used(monkeypatch, caplog, tmp_path, fresh):
    products, *others = native.SOURCES
    shutil.copy(native.HEADER, tmp_path)
    wrong = tmp_path / "wrong.c"
    wrong.write_text(products.read_text().replace("-88", "88"))
    monkeypatch.setattr(native, "SOURCES", (wrong, *others))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert fresh() is None
    assert "wrong numbers" in caplog.text


def test_a_cache_that_cannot_be_written_is_replaced(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = native.cache_folder()
    assert folder.is_dir()
    assert tmp_path not in folder.parents
    folder.rmdir()
