"""RMS norms in one call: the same within rounding, and only where they are the same."""

import pytest
import torch
from torch import nn
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeRMSNorm

from omni.experts.norms import TWO_ROUNDINGS, OneCallRMSNorm, fuse_norms


class OffsetRMSNorm(Qwen3MoeRMSNorm):
    """Its weight counts from one, as in some models."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fused_norm_gives_the_same_and_keeps_its_weight(dtype):
    model = nn.Sequential(Qwen3MoeRMSNorm(128), nn.Linear(128, 128)).to(dtype)
    model[0].weight.data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 5, 128, generator=torch.Generator().manual_seed(2)).to(dtype)
    norm, names = model[0], set(model.state_dict())
    fuse_norms(model)
    assert isinstance(model[0], OneCallRMSNorm)
    torch.testing.assert_close(model[0](x), norm(x), rtol=TWO_ROUNDINGS[dtype], atol=0)
    assert set(model.state_dict()) == names


def test_a_norm_of_another_kind_stays():
    model = nn.Sequential(OffsetRMSNorm(64))
    fuse_norms(model)
    assert isinstance(model[0], OffsetRMSNorm)
