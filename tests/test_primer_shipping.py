"""What is written in four bits and what comes back."""

import torch
from primer_tiny import tiny_model

from omni.primer import shipping


def test_a_shipped_model_holds_exactly_the_rounded_weights(tmp_path):
    model = tiny_model()
    shipping.ship(model, tmp_path)
    loaded = dict(shipping.load(tmp_path).named_parameters())
    for name, parameter in model.named_parameters():
        expected = shipping.rounded(name, parameter)
        if shipping.kind(name, parameter) == "fp16":
            expected = expected.half().float()
        torch.testing.assert_close(loaded[name], expected, rtol=0, atol=1e-6, msg=name)


def test_matrices_take_four_and_a_quarter_bits(tmp_path):
    shipping.ship(tiny_model(), tmp_path)
    from safetensors import safe_open

    name = "model.layers.1.mlp.experts.gate_up_proj"
    weights = tiny_model().get_parameter(name).numel()
    with safe_open(tmp_path / shipping.FILE, "pt") as file:
        stored = sum(file.get_tensor(part).nbytes for part in (name, f"{name}.absmax"))
    assert stored * 8 == 4.25 * weights


def test_a_loaded_model_runs(tmp_path):
    shipping.ship(tiny_model(), tmp_path)
    logits = shipping.load(tmp_path)(torch.tensor([[1, 2, 3]])).logits
    assert logits.isfinite().all()
