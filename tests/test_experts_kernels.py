"""Every way to multiply with a 4-bit matrix, against float32 products with the matrix that its bytes mean.

The tolerance of a number that sums up products x w: rounding to bf16, 8 bits, is off by at most 2^-9. In a bf16 product
the weight is rounded (``Packed`` rounds level, block maximum and weight), so the sum is off by at most 3 * 2^-9 of the
sum of |x w|, and then the result is rounded. In float32 a rounding is 2^-24, and each of n products meets at most n.
"""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from omni.experts import kernels, record
from omni.experts.kernels import FUSED_TOKENS, Floats, Kernel, Packed, Unpacked, best_kernel, packed_product
from omni.experts.linear import FourBitLinear, pack_linears
from omni.experts.record import ExpertShape, LoneMatrix

SHAPE = ExpertShape(256, 192)
CPU = torch.device("cpu")
NAMES = ["unpacked bf16", "unpacked float32", "floats bf16", "floats float32", "packed"]


def kernel_of(name: str) -> Kernel:
    if name == "packed":
        if packed_product() is None:
            pytest.skip("bitsandbytes has no packed kernel for this processor")
        return Packed()
    kind, dtype = name.split()
    return {"unpacked": Unpacked, "floats": Floats}[kind](getattr(torch, dtype.replace("bf16", "bfloat16")))


def random(*shape: int, seed: int = 11) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def record_of(layout: str, seed: int = 12) -> Tensor:
    """An expert whose blocks differ in size by a thousand."""
    held = torch.zeros(SHAPE.record_bytes, dtype=torch.uint8)
    sizes = random(3 * SHAPE.inner * SHAPE.hidden // 64, 1, seed=seed + 1).mul(1.5).exp()
    weights = (random(len(sizes), 64, seed=seed) * sizes).view(-1)
    gate_up, down = weights.split([2 * SHAPE.inner * SHAPE.hidden, SHAPE.inner * SHAPE.hidden])
    record.write(held, SHAPE, gate_up.view(-1, SHAPE.hidden), down.view(-1, SHAPE.inner), layout)
    return held


def settled(kernel: Kernel, taken: Tensor) -> tuple:
    slot = torch.empty(kernel.slot_bytes(SHAPE), dtype=torch.uint8)
    kernel.settle(taken, slot, SHAPE)
    return kernel.prepare(slot, SHAPE)


def product(kernel: Kernel, x: Tensor, operand, rows: int) -> Tensor:
    out = torch.full((len(x), rows), torch.nan, dtype=kernel.dtype)
    kernel.apply(x, operand, out)
    return out


def assert_product(made: Tensor, x: Tensor, weights: Tensor, dtype: torch.dtype, bias: Tensor | None = None) -> None:
    """``made`` is x W^T + b within the roundings of ``dtype``; the top of this file has the reason."""
    x, weights, rounding = x.double(), weights.double(), 2.0 ** (-9 if dtype == torch.bfloat16 else -24)
    true = plain = x @ weights.T
    if bias is not None:
        true = plain + bias.double()
    products = 3 if dtype == torch.bfloat16 else weights.shape[1]
    allowed = rounding * (products * (x.abs() @ weights.abs().T) + plain.abs() + true.abs())  # a bias rounds once more
    assert ((made.double() - true).abs() <= allowed).all()


@pytest.mark.parametrize("tokens", [1, 2, FUSED_TOKENS, FUSED_TOKENS + 1, 100])
@pytest.mark.parametrize("name", NAMES)
def test_a_product_is_that_of_the_weights_which_the_bytes_mean(name, tokens):
    kernel = kernel_of(name)
    taken = record_of(kernel.layout)
    for matrix, operand in zip(SHAPE.matrices, settled(kernel, taken), strict=True):
        x = random(tokens, matrix.columns).to(kernel.dtype)
        weights = record.dequantise(taken, matrix, kernel.layout, torch.float32)
        assert_product(product(kernel, x, operand, matrix.rows), x, weights, kernel.dtype)


@pytest.mark.parametrize("name", [name for name in NAMES if "floats" not in name])
def test_settling_in_place_is_settling_elsewhere(name):
    kernel = kernel_of(name)
    assert kernel.slot_bytes(SHAPE) == SHAPE.record_bytes
    taken = record_of(kernel.layout)
    before = taken.clone()
    there = settled(kernel, taken)
    assert torch.equal(taken, before)
    kernel.settle(taken, taken, SHAPE)
    x = random(3, SHAPE.hidden).to(kernel.dtype)
    here = kernel.prepare(taken, SHAPE)
    assert torch.equal(*(product(kernel, x, operands[0], 2 * SHAPE.inner) for operands in (here, there)))


@pytest.mark.parametrize("name", NAMES)
def test_operands_made_once_are_good_for_whatever_lies_there_later(name):
    kernel = kernel_of(name)
    slot = torch.empty(kernel.slot_bytes(SHAPE), dtype=torch.uint8)
    operands = kernel.prepare(slot, SHAPE)
    x = random(2, SHAPE.hidden).to(kernel.dtype)
    for seed in (21, 22):
        kernel.settle(record_of(kernel.layout, seed), slot, SHAPE)
        fresh = settled(kernel, record_of(kernel.layout, seed))
        assert torch.equal(*(product(kernel, x, both[0], 2 * SHAPE.inner) for both in (operands, fresh)))


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_larger_tensors_go_in_and_out(name):
    """What the decode path does: one row of many in, one row of many out."""
    kernel = kernel_of(name)
    operand = settled(kernel, record_of(kernel.layout))[0]
    many = random(5, SHAPE.hidden).to(kernel.dtype)
    out = torch.zeros(5, 2 * SHAPE.inner, dtype=kernel.dtype)
    for row, into in zip(many.split(1), out.split(1), strict=True):
        kernel.apply(row, operand, into)
    for row, made in zip(many, out, strict=True):
        assert torch.equal(product(kernel, row[None].clone(), operand, 2 * SHAPE.inner)[0], made)


@given(rows=st.integers(1, 4).map(lambda count: 32 * count), pairs=st.integers(1, 40), seed=st.integers(0, 2**31))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_tiles_turn_back_into_rows(rows, pairs, seed):
    packed = torch.randint(256, (rows, pairs), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(record.from_tiles(record.to_tiles(packed)), packed)


def test_both_layouts_mean_the_same_weights():
    rows, tiles = record_of("rows"), record_of("tiles")
    for matrix in SHAPE.matrices:
        weights = [
            record.dequantise(held, matrix, layout, torch.float32)
            for held, layout in ((rows, "rows"), (tiles, "tiles"))
        ]
        assert torch.equal(*weights)


def test_without_bitsandbytes_the_numbers_are_the_same(monkeypatch):
    pytest.importorskip("bitsandbytes")
    kernel = Unpacked(torch.bfloat16)
    operand = settled(kernel, record_of("rows"))[0]
    x = random(7, SHAPE.hidden).bfloat16()
    fast = product(kernel, x, operand, 2 * SHAPE.inner)
    monkeypatch.setattr(kernels, "_bitsandbytes", lambda: False)
    assert torch.equal(product(kernel, x, operand, 2 * SHAPE.inner), fast)


def test_without_bitsandbytes_there_is_no_packed_kernel(monkeypatch):
    monkeypatch.setattr(kernels, "_bitsandbytes", lambda: False)
    packed_product.cache_clear()
    try:
        assert packed_product() is None
        assert type(best_kernel([SHAPE], CPU, torch.float32)) is Unpacked
    finally:
        packed_product.cache_clear()


def test_the_packed_kernel_is_taken_where_there_is_one_and_all_matrices_have_tiles(monkeypatch):
    monkeypatch.setattr(kernels, "packed_product", lambda: None)
    chosen = best_kernel([SHAPE], CPU, torch.bfloat16)
    assert (type(chosen), chosen.dtype, chosen.layout) == (Unpacked, torch.bfloat16, "rows")
    monkeypatch.setattr(kernels, "packed_product", lambda: print)
    assert type(best_kernel([SHAPE], CPU, torch.bfloat16)) is Packed
    assert type(best_kernel([SHAPE, LoneMatrix(33, 64)], CPU, torch.bfloat16)) is Unpacked


def test_a_fused_product_that_gives_other_numbers_is_left_alone(caplog):
    with caplog.at_level(logging.WARNING):
        assert not kernels._is_right(lambda *_: None)
    assert "gives other numbers here" in caplog.text


# ---- linear layers ---------------------------------------------------------------------------------------------------


def linear_of(name: str, bias: bool = True) -> tuple[nn.Linear, FourBitLinear]:
    """A linear layer with weights that 4 bits hold exactly, and the same one in 4 bits."""
    kernel = kernel_of(name)
    linear = nn.Linear(SHAPE.hidden, 96, bias=bias).requires_grad_(False)
    nn.init.normal_(linear.weight, generator=torch.Generator().manual_seed(31))
    if bias:
        nn.init.normal_(linear.bias, generator=torch.Generator().manual_seed(32))
    packed = FourBitLinear(linear, kernel)
    held = torch.zeros(packed.shape.record_bytes, dtype=torch.uint8)
    [matrix] = packed.shape.matrices
    record.put(held, matrix, *record.nf4.quantise(linear.weight), "rows")
    linear.weight.copy_(record.dequantise(held, matrix, "rows", torch.float32))
    return linear, packed


@pytest.mark.parametrize("shape", [(1,), (4,), (2, 3), (2, 1, 60), (0,)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_linear_layer_in_4_bits_takes_inputs_of_any_shape_and_keeps_their_dtype(name, bias, shape):
    linear, packed = linear_of(name, bias)
    x = random(*shape, SHAPE.hidden).to(packed.kernel.dtype)
    for dtype in (packed.kernel.dtype, torch.float32):
        made = packed(x.to(dtype))
        assert made.dtype == dtype
        assert made.shape == (*shape, 96)
        assert_product(made, x, linear.weight, packed.kernel.dtype, linear.bias)


@pytest.mark.parametrize("name", NAMES)
def test_a_linear_layer_in_4_bits_reads_inputs_that_are_not_contiguous(name):
    """Guards: the packed kernel takes the address of a row and expects its numbers side by side."""
    _, packed = linear_of(name)
    columns = random(SHAPE.hidden, 6).to(packed.kernel.dtype)
    wide = random(6, 2 * SHAPE.hidden).to(packed.kernel.dtype)
    for x in (columns.T, wide[:, ::2], wide[:, SHAPE.hidden :], wide[:1, ::2].expand(6, -1)):
        assert torch.equal(packed(x), packed(x.clone(memory_format=torch.contiguous_format)))


@pytest.mark.parametrize("tokens", [1, FUSED_TOKENS + 1])
@pytest.mark.parametrize("name", NAMES)
def test_a_linear_layer_in_4_bits_can_be_called_while_gradients_are_kept(name, tokens):
    """Guards: products into a given tensor fail there. Nothing is learnt through 4 bits: the result has no gradient."""
    _, packed = linear_of(name)
    x = random(tokens, SHAPE.hidden)
    assert torch.equal(packed(x.clone().requires_grad_()), packed(x))
    assert not packed(x.requires_grad_()).requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_a_linear_layer_in_4_bits_goes_on_after_it_was_copied_or_moved(name):
    _, packed = linear_of(name)
    x = random(2, SHAPE.hidden).to(packed.kernel.dtype)
    before = packed(x)
    twin = copy.deepcopy(packed)
    packed.slot.zero_()
    assert torch.equal(twin(x), before)
    twin.slot = twin.slot.clone()
    assert torch.equal(twin(x), before)
    assert not twin.state_dict().keys() - {"bias"}


def test_linear_layers_are_packed_where_it_pays():
    model = nn.ModuleDict({
        "attention": nn.ModuleDict({"out": nn.Linear(128, 64)}),
        "gate": nn.Linear(128, 32),
        "visual": nn.Sequential(nn.Linear(128, 64)),
        "odd": nn.Linear(96, 64),
        "lm_head": nn.Linear(128, 64),
        "embedded": nn.Embedding(64, 128),
    })  # fmt: skip
    model.all_tied_weights_keys = {"lm_head.weight": "embedded.weight"}
    model.requires_grad_(False)
    pack_linears(model, Unpacked(torch.bfloat16))
    assert [name for name, module in model.named_modules() if type(module) is FourBitLinear] == ["attention.out"]


def test_a_linear_layer_without_tiles_is_left_to_floats_by_the_packed_kernel():
    model = nn.ModuleDict({"few": nn.Linear(64, 33), "many": nn.Linear(64, 64)}).requires_grad_(False)
    pack_linears(model, kernel_of("packed"))
    assert [type(module) for module in model.values()] == [nn.Linear, FourBitLinear]
