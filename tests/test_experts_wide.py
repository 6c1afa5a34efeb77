"""Products of bf16 in float32, for processors that have none of their own."""

from __future__ import annotations

import copy
import platform
from pathlib import Path

import pytest
import torch
from omni_tiny import asked
from torch import nn

from omni.engines.qwen3_omni_reading import Reader
from omni.engines.sampling import Chooser, Sampling
from omni.engines.thinker import Thinker
from omni.experts import loading, nf4, record, wide
from omni.experts.kernels import Unpacked
from omni.experts.record import LoneMatrix

BF16_STEP = 2**-8


@pytest.fixture(params=[False, True], ids=["without bf16", "with bf16"])
def processor(request, monkeypatch) -> bool:
    """Whether the processor multiplies bf16."""
    monkeypatch.setattr(wide, "multiplies_bf16", lambda: request.param)
    return request.param


FLAGS = Path("/proc/cpuinfo")


@pytest.mark.skipif(platform.machine() != "x86_64" or not FLAGS.exists(), reason="needs an x86 that says what it can")
def test_products_of_bf16_are_those_of_the_processor_alone():
    """oneDNN pretends to have them on any processor with AVX512."""
    flags = set(FLAGS.read_text().split())
    assert wide.multiplies_bf16() == bool({"avx512_bf16", "amx_tile"} & flags)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


@pytest.mark.parametrize("layer", [
    nn.Linear(12, 2 * wide.ROWS + 3),
    nn.Linear(12, 5, bias=False),
    nn.Conv1d(3, 4, 5, stride=2),
    nn.Conv1d(3, 4, 5, padding=2, padding_mode="reflect"),
    nn.ConvTranspose1d(3, 4, 5, stride=2, output_padding=1),
], ids=lambda layer: str(layer))  # fmt: skip
def test_a_layer_gives_what_float32_gives_rounded_once(layer):
    narrow = layer.bfloat16()
    exact = copy.deepcopy(narrow).float()
    wide.widen(nn.ModuleList([narrow]))
    x = random(2, 3, 12)
    assert torch.equal(narrow(x), exact(x.float()).bfloat16())


def test_other_floats_and_other_layers_are_left_alone(processor):
    model = nn.ModuleList([nn.Linear(4, 4), nn.Embedding(4, 4).bfloat16(), nn.LayerNorm(4).bfloat16()])
    wide.widen(model)
    assert not any("forward" in vars(module) for module in model)
    assert wide.product_dtype(torch.device("cpu"), torch.float16) is torch.float16
    assert wide.product_dtype(torch.device("cuda"), torch.bfloat16) is torch.bfloat16
    assert (wide.product_dtype(torch.device("cpu"), torch.bfloat16) is torch.bfloat16) == processor


def test_a_matrix_in_four_bits_gives_what_its_floats_give(processor):
    shape = LoneMatrix(128, 192)
    held = torch.zeros(shape.record_bytes, dtype=torch.uint8)
    [matrix] = shape.matrices
    record.put(held, matrix, *nf4.quantise(random(128, 192)), "rows")
    x, kernel = random(70, 192), Unpacked(torch.bfloat16)
    [operand] = kernel.prepare(held, shape)
    made, true = kernel.apply(x, operand), x.float() @ record.dequantise(held, matrix, "rows", torch.float32).T
    assert made.dtype is torch.bfloat16
    assert (made.float() - true).norm() <= BF16_STEP * true.norm()


def test_a_model_in_bf16_reads_what_it_reads_in_float32(tiny_omni, omni_samples, processor, tmp_path):
    """Encoders, dense layers and experts; a router's near tie may fall the other way, so near is not equal."""
    reading = Reader(tiny_omni, 1000).read(asked(omni_samples, ("What?", "picture", "sound")))
    logits = []
    for dtype in (torch.bfloat16, torch.float32):
        model = loading.load_model(tiny_omni, dtype=dtype, folder=tmp_path).model
        assert ("forward" in vars(model.code2wav.decoder[0].conv)) == (dtype is torch.bfloat16 and not processor)
        thinker = Thinker(model, Chooser(Sampling(0.0), 0, model.device))
        thinker.read({k: v.to(dtype) if v.is_floating_point() else v for k, v in reading.inputs.items()})
        logits.append(thinker.logits.float())
    assert (logits[0] - logits[1]).norm() <= 0.1 * logits[1].norm()
