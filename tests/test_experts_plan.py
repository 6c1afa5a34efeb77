"""The plan of a memory: the bytes that loading takes, a number where it does not fit, and the command line."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from omni_tiny import save_tiny
from transformers import AutoConfig

from omni.experts.__main__ import main
from omni.experts.cache import BudgetError
from omni.experts.loading import expert_modules, load_model
from omni.experts.plan import (
    CARDS,
    PUBLISHED,
    SHOWN,
    Inventory,
    Plan,
    cards_table,
    find_config,
    kv_bytes,
    parse_memory,
    plan_for,
    plan_with,
    take_inventory,
)
from omni.experts.slab import Slab

REPOSITORY = Path(__file__).parents[1]
OMNI, MOE = SHOWN, "Qwen/Qwen3-30B-A3B"
GIB = 2**30


def save_moe(folder: Path, tied: bool) -> Path:
    """A tiny Qwen3-MoE as transformers saves it."""
    torch.manual_seed(3)
    config = transformers.Qwen3MoeConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        head_dim=32, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=64, vocab_size=96, pad_token_id=0,
        max_position_embeddings=512, tie_word_embeddings=tied,
    )  # fmt: skip
    transformers.Qwen3MoeForCausalLM(config).bfloat16().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Folders with tiny checkpoints, one of them with head and embeddings in one table."""
    folder = tmp_path_factory.mktemp("checkpoints")
    tied = {name: save_moe(folder / name, name == "tied") for name in ("moe", "tied")}
    return {**tied, "omni": save_tiny(folder / "omni")}


@cache
def counted(name: str, device: str = "cuda") -> Inventory:
    """A published model, made without memory once."""
    return take_inventory(find_config(name)[0], device)


def bytes_of(model: torch.nn.Module) -> int:
    """Parameters and buffers that are no experts, nor tables that stay in the file; each piece of memory once."""
    tied = bool(model.all_tied_weights_keys)
    elsewhere = {id(module) for _, module in expert_modules(model)}
    elsewhere |= {id(module) for module in model.modules() if isinstance(module, torch.nn.Embedding) and not tied}
    held = {}
    for module in model.modules():
        if id(module) not in elsewhere:
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                held[id(tensor)] = tensor.numel() * tensor.element_size()
    return sum(held.values())


def dense_bytes(plan: Plan) -> int:
    return sum(part.bytes for part in plan.parts if "bits" in part.about)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("12GB", 12 * 10**9),
        ("900MB", 900 * 10**6),
        ("0.5 GiB", GIB // 2),
        ("1.1GB", 1_100_000_000),
        (" 7 kib ", 7168),
        ("2tib", 2 * 2**40),
        ("12345", 12345),
        ("12345 B", 12345),
    ],
)
def test_amounts_of_memory_are_read(text, amount):
    assert parse_memory(text) == amount


@pytest.mark.parametrize(
    "text", ["", "GB", "12 XB", "-1GB", "0", "0.2", "1e9", "12GB left", "nan", "½GB", "1,5GB", "i"]
)
def test_what_is_no_amount_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match="no amount of memory; write 12GB"):
        parse_memory(text)


@pytest.mark.parametrize("four_bit_dense", [False, True])
@pytest.mark.parametrize("name", ["moe", "tied", "omni"])
def test_a_plan_has_the_bytes_that_loading_takes(name, four_bit_dense, checkpoints, tmp_path):
    config = AutoConfig.from_pretrained(checkpoints[name])
    least = plan_for(config, 10**12, "cpu", 256, four_bit_dense).needed_bytes
    plan = plan_for(config, least + 40_000, "cpu", 256, four_bit_dense)
    loaded = load_model(
        checkpoints[name], plan.experts_bytes, folder=tmp_path, four_bit_dense=four_bit_dense, progress=None
    )
    try:
        assert dense_bytes(plan) == bytes_of(loaded.model)
        assert plan.most_bytes == loaded.experts.most_bytes
        assert plan.least_bytes == loaded.experts.least_bytes
        assert [held.resident for held in plan.pools] == [held.cache.target for held in loaded.experts.pools]
        assert 0 < plan.share < 1
    finally:
        loaded.experts.close()


def test_keys_and_values_are_those_of_the_cache(checkpoints):
    model = transformers.Qwen3MoeForCausalLM.from_pretrained(checkpoints["moe"], dtype=torch.bfloat16)
    held = model(torch.arange(7)[None]).cache
    made = sum(tensor.nbytes for layer in held.layers for tensor in (layer.keys, layer.values))
    assert kv_bytes(model.config, 7) == made


def test_a_window_bounds_the_keys_and_values_of_its_layers():
    layers = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
    config = transformers.Qwen3Config(num_key_value_heads=1, head_dim=32, use_sliding_window=True, **layers)
    assert kv_bytes(config, 100) == 4 * 32 * (16 + 100)


def test_the_published_omni_model_has_the_experts_that_it_is_known_for():
    pools = {held.pool.name: held for held in counted(OMNI).pools}
    sizes = {name: (len(held.pool.layers), held.pool.experts, held.top_k) for name, held in pools.items()}
    assert sizes == {"thinker": (48, 128, 8), "talker": (20, 128, 6)}
    assert pools["thinker"].pool.shape.record_bytes == 2_654_208
    assert pools["talker"].pool.shape.record_bytes == 663_552
    assert pools["thinker"].token_bytes == 48 * 8 * 2_654_208


@pytest.mark.parametrize(("name", "parameters"), [(OMNI, 35.26e9), (MOE, 30.53e9)])
def test_a_published_model_has_as_many_parameters_as_it_is_known_for(name, parameters):
    inventory = counted(name)
    dense = sum(whole for whole, _ in inventory.dense.values()) / 2
    experts = sum(held.pool.records * held.pool.shape.parameters for held in inventory.pools)
    assert dense + experts == pytest.approx(parameters, rel=0.01)


def test_the_towers_stay_in_16_bits():
    inventory = counted(OMNI)
    assert inventory.towers == {"audio_tower", "visual", "code2wav"}
    assert all(whole == packed for row, (whole, packed) in inventory.dense.items() if row in inventory.towers)


def test_a_token_of_the_published_model_adds_96_kib_of_keys_and_values():
    assert kv_bytes(counted(OMNI).decoders["thinker"], 1) == 96 * 1024


def test_what_a_shipped_configuration_is_not_stands_in_it():
    for path in PUBLISHED.glob("*.json"):
        about = " ".join(json.loads(path.read_text())["about"])
        assert "not" in about and "published" in about and "takes its place" in about


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("name", [OMNI, MOE])
@pytest.mark.parametrize(("context", "four_bit_dense"), [(1, False), (8192, True), (32_768, False)])
def test_too_little_memory_is_refused_with_the_number_that_would_do(name, device, context, four_bit_dense):
    inventory = counted(name, device)
    with pytest.raises(BudgetError) as refused:
        plan_with(inventory, 10**6, context, four_bit_dense)
    amounts = re.findall(r"(\d+\.\d[GM]B)(?: would do| with its dense part in 4 bits)", str(refused.value))
    modes = [four_bit_dense] if four_bit_dense else [False, True]
    assert len(amounts) == len(modes)
    for amount, mode in zip(amounts, modes, strict=True):
        plan_with(inventory, parse_memory(amount), context, mode)
        with pytest.raises(BudgetError):
            plan_with(inventory, parse_memory(amount) - 10**8, context, mode)


@pytest.mark.parametrize("context", [0, -5, 65_537])
def test_a_context_that_the_model_cannot_take_is_refused(context):
    with pytest.raises(ValueError, match="a context of 1 to 65,536 tokens"):
        plan_with(counted(OMNI), 10**11, context)


MEMORIES = st.integers(9 * 10**9, 40 * 10**9)


@settings(derandomize=True, deadline=None)
@given(MEMORIES, MEMORIES, st.integers(1, 2048), st.booleans())
def test_more_memory_never_means_fewer_experts(one, other, context, four_bit_dense):
    less, more = (plan_with(counted(OMNI), memory, context, four_bit_dense) for memory in sorted((one, other)))
    for fewer, held in zip(less.pools, more.pools, strict=True):
        assert held.top_k <= fewer.resident <= held.resident <= held.pool.records
    assert sum(held.resident * held.slot_bytes for held in more.pools) <= more.experts_bytes


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 60_000), st.integers(1, 60_000))
def test_more_context_never_leaves_more_for_experts(one, other):
    short, long = (plan_with(counted(OMNI), 30 * 10**9, context) for context in sorted((one, other)))
    assert long.share <= short.share
    assert long.fixed_bytes >= short.fixed_bytes


def test_enough_memory_holds_every_expert():
    plan = plan_with(counted(OMNI), parse_memory("40GB"))
    assert plan.share == 1
    assert all(held.resident == held.pool.records for held in plan.pools)


def test_bringing_experts_bounds_the_tokens_of_a_second():
    thinker = counted(OMNI).pools[0]
    assert thinker.fastest(0, 24e9) == pytest.approx(24e9 / (48 * 8 * 2_654_208))
    assert thinker.fastest(0.5, 24e9) == pytest.approx(2 * thinker.fastest(0, 24e9))
    assert thinker.fastest(1, 24e9) == math.inf


def test_what_the_table_of_cards_asks_for_would_do():
    table = cards_table()
    assert all(f"| {name} | {memory} |" in table for name, memory, _ in CARDS)
    for line in table.splitlines():
        for amount in re.findall(r"needs (\S+)", line):
            assert plan_with(counted(OMNI), parse_memory(amount), None, not line.endswith("GB |")).share > 0


def test_a_configuration_in_the_cache_of_the_hub_goes_before_the_one_shipped(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--Qwen--Qwen3-30B-A3B"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("1234")
    (repository / "snapshots" / "1234").mkdir(parents=True)
    config = (checkpoints["moe"] / "config.json").read_text()
    (repository / "snapshots" / "1234" / "config.json").write_text(config)
    found, source = find_config(MOE)
    assert found.num_experts == 8
    assert source.startswith(str(tmp_path))
    assert find_config(OMNI)[0].thinker_config.text_config.num_experts == 128


@pytest.mark.parametrize("model", ["no/such", "a/b/c", "../published/x", "x" * 300])
def test_a_model_that_is_nowhere_is_refused_with_those_that_are_known(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert main(["plan", model, "--memory", "12GB"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    if len(model) < 100:  # a longer name is refused by the system, in its own words
        assert MOE in said.err and OMNI in said.err


def test_a_folder_that_cannot_be_planned_for_is_refused(tmp_path, capsys):
    omni = "Qwen3OmniMoeForConditionalGeneration"
    cases = {
        "empty": (None, "There is no config.json"),
        "broken": ("{", "cannot be used"),
        "alien": ('{"model_type": "alien"}', "cannot be used"),
        "lacking": (f'{{"model_type": "qwen3_omni_moe", "architectures": ["{omni}"]}}', "No model can be made"),
        "dense": ('{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}', "has no experts"),
    }
    for name, (config, reason) in cases.items():
        (tmp_path / name).mkdir()
        if config:
            (tmp_path / name / "config.json").write_text(config)
        assert main(["plan", str(tmp_path / name), "--memory", "12GB"]) == 1
        said = capsys.readouterr().err
        assert reason in said
        assert said.count("\n") == 1


def test_the_plan_is_printed_with_what_a_token_reads(capsys):
    assert main(["plan", OMNI, "--memory", "12GB"]) == 0
    printed = capsys.readouterr().out
    assert "nothing is measured" in printed
    assert re.search(r"thinker +\d{3} of 6,144 +8% +2\.7 MB +1\.02 GB +8 in each of 48 layers", printed)
    assert re.search(r"all but experts +8\.\d\d GB", printed)


def test_a_plan_that_holds_everything_needs_no_link(capsys):
    assert main(["plan", OMNI, "--memory", "40GB", "--four-bit-dense", "--context", "1024"]) == 0
    assert "none has to be brought" in capsys.readouterr().out


@pytest.mark.parametrize("layout", ["rows", "tiles"])
def test_a_checkpoint_is_converted_and_shown(layout, checkpoints, tmp_path, capsys):
    assert main(["convert", str(checkpoints["omni"]), "--out", str(tmp_path), "--layout", layout]) == 0
    printed = capsys.readouterr()
    assert "100%" in printed.err
    [path] = tmp_path.glob("*.slab")
    with Slab.open(path) as slab:
        assert slab.layout == layout
        assert slab.checksum in printed.out
    assert main(["show", str(path)]) == 0
    assert capsys.readouterr().out == printed.out
    assert "thinker: 3 layers of 8 experts, 64 x 64, 8.2 kB each" in printed.out


def test_damage_is_found(checkpoints, tmp_path, capsys):
    assert main(["convert", str(checkpoints["moe"]), "--out", str(tmp_path)]) == 0
    [path] = tmp_path.glob("*.slab")
    assert main(["verify", str(path)]) == 0
    assert "All 24 experts" in capsys.readouterr().out
    with path.open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"damage")
    assert main(["verify", str(path)]) == 1
    assert main(["show", str(tmp_path / "nothing.slab")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "is damaged" in said.err and "There is no expert file" in said.err


def run(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "omni.experts", *words]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)


def test_the_command_converts_a_checkpoint(checkpoints, tmp_path):
    made = run("convert", str(checkpoints["moe"]), "--out", str(tmp_path))
    assert made.returncode == 0, made.stderr
    [path] = tmp_path.glob("*.slab")
    assert str(path) in made.stdout and "100%" in made.stderr


def test_the_command_refuses_too_little_memory_in_one_sentence():
    refused = run("plan", OMNI, "--memory", "5GB")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(r"5\.00 GB are too little .* would do, or .* in 4 bits\. It takes .*\n", refused.stderr)
