"""Every way to multiply with a 4-bit matrix, against float32 products with the matrix that its bytes mean.

The tolerance of a number that sums up products x w: rounding to bf16, 8 bits, is off by at most 2^-9. In a bf16 product
the weight is rounded (``Packed`` rounds level, block maximum and weight), so the sum is off by at most 3 * 2^-9 of the
sum of |x w|, and then the result is rounded. In float32 a rounding is 2^-24, and each of n products meets at most n.
Our own products round levels and activations to whole steps of 1/127 of their block's largest: half a step is lost.
"""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from omni.experts import kernels, native, record
from omni.experts.kernels import (
    FUSED_TOKENS,
    NATIVE_TOKENS,
    Floats,
    Kernel,
    Native,
    Packed,
    Unpacked,
    best_kernel,
    packed_product,
)
from omni.experts.linear import FourBitLinear, pack_linears
from omni.experts.record import ExpertShape, LoneMatrix

SHAPE = ExpertShape(256, 192)
CPU = torch.device("cpu")
NAMES = [
    "unpacked bf16",
    "unpacked float32",
    "floats bf16",
    "floats float32",
    "packed",
    "native bf16",
    "native float32",
]
COUNTS = [1, 2, NATIVE_TOKENS, NATIVE_TOKENS + 1, FUSED_TOKENS, FUSED_TOKENS + 1, 100]


def kernel_of(name: str) -> Kernel:
    if name == "packed":
        if packed_product() is None:
            pytest.skip("bitsandbytes has no packed kernel for this processor")
        return Packed()
    kind, dtype = name.split()
    if kind == "native" and native.library() is None:
        pytest.skip("there is no C compiler")
    return {"unpacked": Unpacked, "floats": Floats, "native": Native}[kind](
        getattr(torch, dtype.replace("bf16", "bfloat16"))
    )


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


def assert_product(kernel: Kernel, made: Tensor, x: Tensor, weights: Tensor, bias: Tensor | None = None) -> None:
    """``made`` is x W^T + b within the roundings of ``kernel``; the top of this file has the reason."""
    x, weights, rounding = x.double(), weights.double(), 2.0 ** (-9 if kernel.dtype == torch.bfloat16 else -24)
    true = plain = x @ weights.T
    if bias is not None:
        true = plain + bias.double()
    products = 3 if kernel.dtype == torch.bfloat16 else weights.shape[1]
    allowed = rounding * (products * (x.abs() @ weights.abs().T) + plain.abs() + true.abs())  # a bias rounds once more
    if isinstance(kernel, Native) and x[..., 0].numel() <= NATIVE_TOKENS:
        lost_x, lost_weights = half_steps(x), half_steps(weights)
        allowed += x.abs() @ lost_weights.T + lost_x @ weights.abs().T + lost_x @ lost_weights.T
    assert ((made.double() - true).abs() <= allowed).all()


def half_steps(values: Tensor) -> Tensor:
    """What rounding to whole steps of 1/127 of each block's largest takes away at most."""
    blocks = values.unflatten(-1, (-1, 64))
    return (blocks.abs().amax(-1, keepdim=True) / 254).expand_as(blocks).flatten(-2)


@pytest.mark.parametrize("tokens", COUNTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_product_is_that_of_the_weights_which_the_bytes_mean(name, tokens):
    kernel = kernel_of(name)
    taken = record_of(kernel.layout)
    for matrix, operand in zip(SHAPE.matrices, settled(kernel, taken), strict=True):
        x = random(tokens, matrix.columns).to(kernel.dtype)
        weights = record.dequantise(taken, matrix, kernel.layout, torch.float32)
        made = kernel.apply(x, operand)
        assert (made.shape, made.dtype) == ((tokens, matrix.rows), kernel.dtype)
        assert_product(kernel, made, x, weights)


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
    assert torch.equal(kernel.apply(x, here[0]), kernel.apply(x, there[0]))


@pytest.mark.parametrize("name", NAMES)
def test_operands_made_once_are_good_for_whatever_lies_there_later(name):
    kernel = kernel_of(name)
    slot = torch.empty(kernel.slot_bytes(SHAPE), dtype=torch.uint8)
    operands = kernel.prepare(slot, SHAPE)
    x = random(2, SHAPE.hidden).to(kernel.dtype)
    for seed in (21, 22):
        kernel.settle(record_of(kernel.layout, seed), slot, SHAPE)
        fresh = settled(kernel, record_of(kernel.layout, seed))
        assert torch.equal(kernel.apply(x, operands[0]), kernel.apply(x, fresh[0]))


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_a_larger_tensor_is_multiplied_as_if_it_stood_alone(name):
    kernel = kernel_of(name)
    operand = settled(kernel, record_of(kernel.layout))[0]
    for row in random(5, SHAPE.hidden).to(kernel.dtype).split(1):
        assert torch.equal(kernel.apply(row, operand), kernel.apply(row.clone(), operand))


class Gated(nn.Module):
    """What stands between an expert's matrices, as transformers has it."""

    _apply_gate = kernels._default_apply_gate

    def __init__(self, act_fn: nn.Module):
        super().__init__()
        self.act_fn = act_fn


class Halved(Gated):
    """A gate of its own."""

    def _apply_gate(self, raised: Tensor) -> Tensor:
        return super()._apply_gate(raised) / 2


@pytest.mark.parametrize("module", [Gated(nn.SiLU()), Gated(nn.GELU()), Halved(nn.SiLU())], ids=["silu", "gelu", "own"])
@pytest.mark.parametrize("name", NAMES)
def test_a_token_goes_through_experts_each_with_its_own_matrices_and_the_module_s_gate(name, module):
    kernel = kernel_of(name)
    taken = [record_of(kernel.layout, seed) for seed in (41, 43, 47)]
    operands = [settled(kernel, one) for one in taken]
    x = random(1, SHAPE.hidden).to(kernel.dtype)
    tolerance = 1e-5 if kernel.dtype == torch.float32 and not isinstance(kernel, Native) else 0.03
    made = kernel.experts(module, x, operands)
    assert made.shape == (3, SHAPE.hidden)
    for row, one, operand in zip(made, taken, operands, strict=True):
        gate_up, down = (record.dequantise(one, matrix, kernel.layout, torch.float32) for matrix in SHAPE.matrices)
        true = module._apply_gate(x.float() @ gate_up.T) @ down.T
        assert (row.float() - true).norm() < tolerance * true.norm()
        assert torch.equal(kernel.experts(module, x, [operand])[0], row)  # whatever is computed beside it


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
    fast = kernel.apply(x, operand)
    monkeypatch.setattr(kernels, "_bitsandbytes", lambda: False)
    assert torch.equal(kernel.apply(x, operand), fast)


def test_without_bitsandbytes_there_is_no_packed_kernel(monkeypatch):
    monkeypatch.setattr(kernels, "_bitsandbytes", lambda: False)
    monkeypatch.setattr(native, "library", lambda: None)
    packed_product.cache_clear()
    try:
        assert packed_product() is None
        assert type(best_kernel([SHAPE], CPU, torch.float32)) is Unpacked
    finally:
        packed_product.cache_clear()


def test_our_own_products_come_first(monkeypatch):
    monkeypatch.setattr(native, "library", lambda: print)
    chosen = best_kernel([SHAPE], CPU, torch.float32)
    assert (type(chosen), chosen.dtype, chosen.layout) == (Native, torch.float32, "rows")


def test_the_packed_kernel_is_taken_where_there_is_one_and_all_matrices_have_tiles(monkeypatch):
    monkeypatch.setattr(native, "library", lambda: None)
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
        assert_product(packed.kernel, made, x, linear.weight, linear.bias)


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
