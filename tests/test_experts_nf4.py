"""NF4 in plain torch against bitsandbytes, the reference."""

import pytest
import torch

from omni.experts import nf4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_and_scales_equal_those_of_bitsandbytes(dtype):
    functional = pytest.importorskip("bitsandbytes.functional")
    weights = torch.randn(96, 256, generator=torch.Generator().manual_seed(3)).to(dtype)
    packed, state = functional.quantize_4bit(weights, quant_type="nf4", blocksize=nf4.BLOCK)
    ours, absmax = nf4.quantise(weights)
    assert torch.equal(ours, packed.flatten())
    assert torch.equal(absmax, state.absmax)


def test_dequantised_weights_are_within_half_a_level():
    weights = torch.randn(8, 64, generator=torch.Generator().manual_seed(4))
    back = nf4.dequantise(*nf4.quantise(weights), weights.shape)
    widest = max(b - a for a, b in zip(nf4.LEVELS, nf4.LEVELS[1:], strict=False)) / 2
    assert ((back - weights).abs() <= weights.abs().amax(1, keepdim=True) * widest + 1e-6).all()


def test_a_block_of_zeros_stays_zero():
    zeros = torch.zeros(2, 64)
    assert torch.equal(nf4.dequantise(*nf4.quantise(zeros), zeros.shape), zeros)


def test_a_number_of_weights_that_is_no_multiple_of_a_block_is_refused():
    with pytest.raises(ValueError, match="multiple of 64"):
        nf4.quantise(torch.zeros(63))
