"""One token at a time equals many at once."""

import copy

import pytest
import torch
from primer_tiny import tiny_model

from omni.experts import loading
from omni.experts.kernels import Floats
from omni.primer import shipping
from omni.primer.modeling import KeyValueCache, PrimerForCausalLM, Router
from omni.primer.stepping import Stepper

LENGTH, KNOWN = 14, 6


def _sequence() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (1, L) and positions (1, L, 3) in which rows and columns differ from the time."""
    generator = torch.Generator().manual_seed(1)
    line = torch.arange(float(LENGTH))
    places = torch.stack([line, line + torch.arange(LENGTH) % 3, line + torch.arange(LENGTH) % 5], 1)
    return torch.randint(0, 7000, (1, LENGTH), generator=generator), places[None]


def _loud_model() -> PrimerForCausalLM:
    """Norms and router biases away from what they start as, so that leaving one out shows."""
    model, generator = copy.deepcopy(tiny_model()), torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5, generator=generator)
    for router in (module for module in model.modules() if isinstance(module, Router)):
        router.balance.uniform_(-0.3, 0.3, generator=generator)
    return model


@torch.inference_mode()
def _stepped(model: PrimerForCausalLM, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    cache = KeyValueCache(model.config, 1, LENGTH, model.lm_head.weight)
    known = model.model(ids[:, :KNOWN], positions[:, :KNOWN], cache).last_hidden_state[0]
    step = Stepper(model.model, cache)
    made = [step(ids[0, i].item(), tuple(positions[0, i].tolist())) for i in range(KNOWN, LENGTH)]
    assert cache.length == LENGTH
    return torch.cat([known, torch.stack(made)])


def test_steps_equal_one_pass():
    model, (ids, positions) = _loud_model(), _sequence()
    whole = model.model(ids, positions).last_hidden_state[0]
    torch.testing.assert_close(_stepped(model, ids, positions), whole, rtol=1e-4, atol=1e-5)


def test_steps_with_experts_out_of_a_slab_equal_one_pass(tmp_path):
    shipping.ship(_loud_model(), tmp_path)
    model = shipping.skeleton(tmp_path)
    pools = loading.pools_of(model)
    loading.take_out_experts(model)
    kernel, device = Floats(torch.float32), torch.device("cpu")
    slab = loading.open_slab(tmp_path, tmp_path, pools, kernel, None, device)
    model = shipping.load(tmp_path, model=model)
    experts = loading.hold(model, slab, kernel, device)
    experts.resize(experts.least_bytes)
    ids, positions = _sequence()
    with torch.inference_mode():
        whole = model.model(ids, positions).last_hidden_state[0]
    torch.testing.assert_close(_stepped(model, ids, positions), whole, rtol=1e-4, atol=1e-5)


def test_a_full_cache_takes_no_step():
    model = tiny_model()
    step = Stepper(model.model, KeyValueCache(model.config, 1, 1, model.lm_head.weight))
    with torch.inference_mode():
        step(7, (0.0, 0.0, 0.0))
        with pytest.raises(IndexError, match="holds 1 positions, 2 were asked for"):
            step(7, (1.0, 1.0, 1.0))
