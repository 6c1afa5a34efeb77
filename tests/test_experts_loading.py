"""Loading: every family, no expert left in float, in little memory; what cannot be computed is refused by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import experts_tiny
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omni.experts import loading
from omni.experts.cache import BudgetError
from omni.experts.conversion import SINGLE
from omni.experts.linear import FourBitLinear
from omni.experts.loading import UnsupportedLayout, check_layout, load_model, pools_of, skeleton
from omni.experts.slab import Slab, SlabError

NAMES = [*experts_tiny.MODELS, "qwen3_omni"]
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a model's checkpoint, by name; it keeps the slab that the first load makes."""
    folders: dict[str, Path] = {}

    def save(name: str) -> Path:
        if name not in folders:
            folders[name] = experts_tiny.save(name, tmp_path_factory.mktemp(name))
        return folders[name]

    return save


def prompt(seed: int = 51, length: int = 20) -> Tensor:
    return torch.randint(3, 120, (1, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def answer(loaded: loading.Loaded) -> Tensor:
    return loaded.model(input_ids=prompt()).logits


@pytest.mark.parametrize("name", NAMES)
def test_every_family_loads_with_no_expert_in_float(name, checkpoint):
    folder = checkpoint(name)
    whole = sum(tensor.numel() for tensor in load_file(folder / SINGLE).values())
    loaded = load_model(folder)
    kept = {value.data_ptr(): value.numel() for value in loaded.model.state_dict().values()}  # tied weights count once
    held = sum(pool.records * pool.shape.parameters for pool in loaded.experts.slab.pools)
    assert not [one for one, _ in loaded.model.named_parameters() if ".experts." in one]
    assert sum(kept.values()) + held == whole
    assert not [one for one, value in loaded.model.named_parameters() if value.device.type == "meta"]
    assert not loaded.model.training
    assert f"experts in 4 bits on cpu: {loaded.experts.slab.pools[0].name}: " in loaded.experts.describe()
    loaded.experts.close()


def test_the_omni_model_has_a_pool_for_the_thinker_and_one_for_the_talker(checkpoint):
    loaded = load_model(checkpoint("qwen3_omni"))
    assert [(held.pool.name, len(held.pool.layers), held.top_k) for held in loaded.experts.pools] == [
        ("thinker", 3, 2), ("talker", 2, 2)
    ]  # fmt: skip
    loaded.experts.close()


def test_the_slab_is_made_once_and_goes_where_it_is_told(checkpoint, tmp_path):
    first = load_model(checkpoint("qwen3_moe"), folder=tmp_path / "slabs")
    [slab] = (tmp_path / "slabs").iterdir()
    made, expected = slab.stat().st_mtime_ns, answer(first)
    first.experts.close()
    second = load_model(checkpoint("qwen3_moe"), folder=tmp_path / "slabs")
    assert slab.stat().st_mtime_ns == made
    assert torch.equal(answer(second), expected)
    second.experts.close()


def test_an_expert_that_stayed_in_float_is_reported_by_name(checkpoint):
    loaded = load_model(checkpoint("qwen3_moe"))
    loaded.model.model.layers[1].mlp.experts.down_proj = nn.Parameter(torch.zeros(8, 64, 64))
    with pytest.raises(RuntimeError, match=r"not taken into 4 bits: model\.layers\.1\.mlp\.experts\.down_proj"):
        loading.check_loaded(loaded.model)
    loaded.experts.close()


def test_a_memory_too_small_for_one_token_is_refused_with_the_number_that_works(checkpoint):
    least = 2 * 8192  # two experts of two pages each
    with pytest.raises(BudgetError, match=r"one token needs in one layer take 0\.1 MB"):
        load_model(checkpoint("qwen3_moe"), memory=least - 1)
    loaded = load_model(checkpoint("qwen3_moe"), memory=least)
    assert loaded.experts.budget == least
    assert answer(loaded).isfinite().all()
    assert loaded.experts.bytes_held == least
    loaded.experts.close()


def test_the_dense_part_can_be_in_4_bits_too_and_no_budget_changes_its_answer(checkpoint):
    loaded = load_model(checkpoint("qwen3_moe"), four_bit_dense=True)
    assert type(loaded.model.model.layers[0].self_attn.q_proj) is FourBitLinear
    assert type(loaded.model.lm_head) is FourBitLinear
    assert type(loaded.model.model.layers[0].mlp.gate) is not FourBitLinear
    expected = answer(loaded)
    loaded.experts.resize(loaded.experts.least_bytes)
    assert torch.equal(answer(loaded), expected)
    loaded.experts.close()


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_a_damaged_expert_is_a_sentence_and_the_next_answer_is_right(checkpoint):
    loaded = load_model(checkpoint("qwen3_moe"))
    expected, slab = answer(loaded), loaded.experts.slab.path
    loaded.experts.close()
    with Slab.open(slab) as opened:
        _, offset, _ = opened.contents.place(0, 1, 3)
    flip(slab, offset)
    try:
        loaded = load_model(checkpoint("qwen3_moe"))
        loaded.experts.resize(loaded.experts.least_bytes)
        for _ in range(2):
            with pytest.raises(SlabError, match=r"expert 3 of model\.layers\.1\.mlp\.experts, is damaged"):
                answer(loaded)
        assert all(slot.pins == 0 for slot in loaded.experts.pools[0].cache._slots.values())
    finally:
        flip(slab, offset)
    assert torch.equal(answer(loaded), expected)
    loaded.experts.close()


def flip(path: Path, at: int) -> None:
    """Change a byte, or change it back."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 255]))


def test_a_truncated_slab_is_refused_before_anything_is_loaded(checkpoint, tmp_path):
    load_model(checkpoint("qwen3_moe"), folder=tmp_path).experts.close()
    [slab] = tmp_path.iterdir()
    os.truncate(slab, slab.stat().st_size - 1)
    with pytest.raises(SlabError, match="is truncated"):
        load_model(checkpoint("qwen3_moe"), folder=tmp_path)


def test_a_checkpoint_that_lacks_a_dense_tensor_is_refused_by_its_name(checkpoint, tmp_path):
    shutil.copytree(checkpoint("qwen3_moe"), tmp_path / "lacking", ignore=shutil.ignore_patterns("*.slab"))
    tensors = load_file(tmp_path / "lacking" / SINGLE)
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, tmp_path / "lacking" / SINGLE, {"format": "pt"})
    with pytest.raises(SlabError, match=r"lacks model\.layers\.1\.self_attn\.k_proj\.weight"):
        load_model(tmp_path / "lacking")


# ---- refused ---------------------------------------------------------------------------------------------------------

SMALL = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 64}
REFUSED = {
    "gpt_oss": (
        lambda: transformers.GptOssConfig(**SMALL, num_local_experts=4, head_dim=32, num_attention_heads=2),
        "GptOssExperts .* has interleaved and transposed and biased experts",
    ),
    "nemotron_h": (
        lambda: transformers.NemotronHConfig(
            **{**SMALL, "num_hidden_layers": None}, layers_block_type=["moe"], n_routed_experts=4,
            moe_intermediate_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        ),
        "NemotronHExperts .* has gateless experts",
    ),
    "qwen3": (
        lambda: transformers.Qwen3Config(**SMALL, num_attention_heads=2, num_key_value_heads=1, head_dim=32),
        "Qwen3ForCausalLM has no experts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_computed_is_refused_by_name_before_a_weight_is_read(name, tmp_path):
    make, sentence = REFUSED[name]
    make().save_pretrained(tmp_path)  # and no safetensors
    with pytest.raises(ValueError, match=sentence):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("flag", "value", "word"),
    [
        ("is_concatenated", False, "interleaved"),
        ("is_transposed", True, "transposed"),
        ("has_bias", True, "biased"),
        ("has_gate", False, "gateless"),
        ("has_post_expert_norm", True, "normalised after each expert"),
    ],
)
def test_each_layout_that_is_not_implemented_has_its_word(flag, value, word):
    with torch.device("meta"):
        model = experts_tiny.qwen3_moe()
    module = model.model.layers[0].mlp.experts
    check_layout("first", module)
    setattr(module, flag, value)
    with pytest.raises(UnsupportedLayout, match=rf"Qwen3MoeExperts \(model.layers.0.mlp.experts\) has {word} experts"):
        pools_of(model)


def test_experts_that_take_no_other_function_are_refused():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.num_experts = 4
            self.gate_up_proj, self.down_proj = (
                nn.Parameter(torch.zeros(4, 128, 64)),
                nn.Parameter(torch.zeros(4, 64, 64)),
            )

    with pytest.raises(UnsupportedLayout, match=r"Plain \(0\) does not take other experts functions"):
        pools_of(nn.Sequential(Plain()))


# ---- memory ----------------------------------------------------------------------------------------------------------

PEAK = """
import json, sys, threading
from pathlib import Path
import bitsandbytes, torch, transformers
from omni.experts.loading import load_model

transformers.Qwen3MoeForCausalLM, transformers.AutoConfig  # imported when they are named


def anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def peak_of(work) -> int:
    before, done, seen = anonymous(), threading.Event(), []

    def watch():
        while not done.wait(0.001):
            seen.append(anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    kept = work()
    seen.append(anonymous())
    done.set()
    thread.join()
    return max(seen) - before


folder = sys.argv[1]
ours = peak_of(lambda: load_model(folder))
plain = peak_of(lambda: transformers.Qwen3MoeForCausalLM.from_pretrained(folder, dtype=torch.bfloat16))
print(json.dumps([ours, plain]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is counted by Linux")
def test_loading_takes_the_dense_part_one_expert_and_64_mib_at_most(tmp_path):
    """151 MB of experts. Anonymous memory only: pages of files are the system's to take back. A thread looks every
    millisecond, in a process of its own that has imported everything; the plain way to load shows what it would see.
    """
    pytest.importorskip("bitsandbytes")
    config = transformers.Qwen3MoeConfig(
        hidden_size=512, moe_intermediate_size=256, intermediate_size=256, num_experts=64, num_experts_per_tok=4,
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=64, vocab_size=1000,
        architectures=["Qwen3MoeForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    generator = torch.Generator().manual_seed(53)
    tensors, model = {}, skeleton(config)
    for name, like in model.state_dict().items():
        if ".experts." not in name:
            tensors[name] = torch.randn(like.shape, generator=generator).bfloat16()
    dense = sum(tensor.nbytes for tensor in tensors.values())
    parts = {"gate_proj": (256, 512), "up_proj": (256, 512), "down_proj": (512, 256)}
    drawn = {part: torch.randn(shape, generator=generator).bfloat16() for part, shape in parts.items()}
    for name, module in loading.expert_modules(model):
        for expert in range(module.num_experts):
            tensors |= {f"{name}.{expert}.{part}.weight": weights.clone() for part, weights in drawn.items()}
    experts = sum(tensor.nbytes for tensor in tensors.values()) - dense
    save_file(tensors, tmp_path / SINGLE, {"format": "pt"})
    tensors.clear()

    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours, plain = json.loads(done.stdout.splitlines()[-1])
    print(f"{ours / 1e6:.1f} MB for ours, {plain / 1e6:.1f} MB the plain way, {dense / 1e6:.1f} MB are dense")
    assert experts > 150e6
    assert ours <= dense + drawn["gate_proj"].nbytes + (64 << 20)
    assert plain > experts
