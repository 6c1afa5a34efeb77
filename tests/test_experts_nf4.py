"""NF4 in plain torch against bitsandbytes, the reference."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.experts import nf4

MIDPOINTS = (torch.tensor(nf4.LEVELS)[1:] + torch.tensor(nf4.LEVELS)[:-1]) / 2


def by_bitsandbytes(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    functional = pytest.importorskip("bitsandbytes.functional")
    packed, state = functional.quantize_4bit(weights, quant_type="nf4", blocksize=nf4.BLOCK)
    return packed.flatten(), state.absmax


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_bytes_and_scales_equal_those_of_bitsandbytes(dtype):
    weights = torch.randn(96, 256, generator=torch.Generator().manual_seed(3)).to(dtype)
    for ours, theirs in zip(nf4.quantise(weights), by_bitsandbytes(weights), strict=True):
        assert torch.equal(ours, theirs)


@given(
    seed=st.integers(0, 2**32 - 1),
    exponents=st.lists(st.integers(-46, 37), min_size=1, max_size=4),  # down to where float32 has no full precision
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    awkward=st.booleans(),
)
@settings(derandomize=True, deadline=None, max_examples=150)
def test_any_weights_give_the_bytes_of_bitsandbytes(seed, exponents, dtype, awkward):
    """Rows of every magnitude and of zeros; ``awkward`` ones lie on a midpoint of two levels or one bit beside it."""
    random = np.random.default_rng(seed)
    rows = []
    for exponent in exponents:
        row = random.standard_normal(nf4.BLOCK).astype(np.float32)
        if awkward:
            row = random.choice(MIDPOINTS.numpy(), nf4.BLOCK)
            row = np.nextafter(row, np.float32(2) * random.integers(-1, 2, nf4.BLOCK) + row)
            row[random.integers(nf4.BLOCK)] = random.choice([-1, 1])
        rows += [row * np.float32(10.0**exponent), row * np.float32(2.0**exponent), row * 0]
    weights = torch.tensor(np.stack(rows)).to(dtype).nan_to_num(0, 0, 0)  # too large for float16
    for ours, theirs in zip(nf4.quantise(weights), by_bitsandbytes(weights), strict=True):
        assert torch.equal(ours, theirs)


def test_halfway_between_two_levels_takes_the_lower_one_and_a_bit_more_the_upper():
    """What both of bitsandbytes' quantisers do: they ask whether a weight is greater than the midpoint."""
    for shift, expected in ((-2.0, range(15)), (None, range(15)), (2.0, range(1, 16))):
        weights = MIDPOINTS.clone() if shift is None else torch.nextafter(MIDPOINTS, torch.tensor(shift))
        packed, _ = nf4.quantise(torch.cat([weights, torch.ones(1), torch.zeros(48)]))
        levels = torch.stack([packed >> 4, packed & 15], 1).flatten()
        assert levels[:15].tolist() == list(expected)


def test_dequantised_weights_are_within_half_a_level():
    weights = torch.randn(8, 64, generator=torch.Generator().manual_seed(4))
    back = nf4.dequantise(*nf4.quantise(weights), weights.shape)
    widest = max(b - a for a, b in zip(nf4.LEVELS, nf4.LEVELS[1:], strict=False)) / 2
    assert ((back - weights).abs() <= weights.abs().amax(1, keepdim=True) * widest + 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dequantised_weights_equal_those_of_bitsandbytes(dtype):
    functional = pytest.importorskip("bitsandbytes.functional")
    weights = torch.randn(96, 256, generator=torch.Generator().manual_seed(5)).to(dtype)
    theirs = functional.dequantize_4bit(*functional.quantize_4bit(weights, quant_type="nf4", blocksize=nf4.BLOCK))
    assert torch.equal(nf4.dequantise(*nf4.quantise(weights), weights.shape, dtype), theirs)


def test_dequantised_weights_quantise_to_the_same_bytes():
    packed, absmax = nf4.quantise(torch.randn(64, 256, generator=torch.Generator().manual_seed(6)))
    again = nf4.quantise(nf4.dequantise(packed, absmax, (64, 256)))
    assert torch.equal(again[0], packed)
    assert torch.equal(again[1], absmax)


def test_a_block_of_zeros_stays_zero():
    zeros = torch.zeros(2, 64)
    assert torch.equal(nf4.dequantise(*nf4.quantise(zeros), zeros.shape), zeros)


def test_a_number_of_weights_that_is_no_multiple_of_a_block_is_refused():
    with pytest.raises(ValueError, match="multiple of 64"):
        nf4.quantise(torch.zeros(63))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(value):
    weights = torch.zeros(4, 64)
    weights[2, 5] = value
    with pytest.raises(ValueError, match="not finite"):
        nf4.quantise(weights)
