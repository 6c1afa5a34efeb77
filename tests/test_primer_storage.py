"""Tokenisers on disk: what is stored in 8 bits comes back near, codes stay as they are."""

import numpy as np
import torch
from safetensors.torch import load_file

from omni.primer.tokenizers.image import ImageTokenizer, to_tensor
from omni.primer.tokenizers.storage import load_module, save_module


def _drawn() -> ImageTokenizer:
    torch.manual_seed(0)
    return ImageTokenizer(width=16).eval().requires_grad_(False)


def test_a_decoder_in_8_bits_is_half_the_file_and_draws_nearly_the_same(tmp_path):
    tokenizer, pictures = _drawn(), np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    codes = load_module(ImageTokenizer(width=16), _saved(tokenizer, tmp_path / "plain")).encode(to_tensor(pictures))
    packed = load_module(ImageTokenizer(width=16), _saved(tokenizer, tmp_path / "packed", int8="decoder"))
    assert torch.equal(packed.encode(to_tensor(pictures)), codes)
    made, true = packed.decode(codes), tokenizer.decode(codes)
    assert 0 < (made - true).square().mean() < 0.01 * true.var()
    assert (tmp_path / "packed").stat().st_size < 0.7 * (tmp_path / "plain").stat().st_size
    kinds = {name: value.dtype for name, value in load_file(tmp_path / "packed").items() if name.endswith("weight")}
    assert kinds["decoder.0.weight"] == torch.int8
    assert kinds["encoder.1.weight"] == torch.float16


def _saved(tokenizer, path, **options):
    save_module(tokenizer, path, **options)
    return path


def test_a_channel_of_zeros_stays_zero(tmp_path):
    tokenizer = _drawn()
    tokenizer.decoder[0].weight[0] = 0
    again = load_module(ImageTokenizer(width=16), _saved(tokenizer, tmp_path / "file", int8="decoder"))
    assert (again.decoder[0].weight[0] == 0).all()
