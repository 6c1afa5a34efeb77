"""From a checkpoint to a slab: the bytes of bitsandbytes, whatever the form, and a sentence for what cannot be done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers
from primer_tiny import tiny_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omni.experts import nf4, record
from omni.experts.conversion import (
    INDEX,
    SINGLE,
    Checkpoint,
    convert,
    find_source,
    identity_of,
    repack,
    terminal_progress,
)
from omni.experts.record import ExpertShape
from omni.experts.slab import Pool, Slab, SlabError, partial_of
from omni.primer import shipping

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1}
TINY = {**SIZES, "num_hidden_layers": 2, "vocab_size": 64, "pad_token_id": 0, "eos_token_id": 1}
EXPERTS = {"head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 4, 4]}


def qwen3_moe() -> nn.Module:
    return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**TINY, **EXPERTS))


def olmoe() -> nn.Module:
    return transformers.OlmoeForCausalLM(transformers.OlmoeConfig(**TINY, num_experts=4, num_experts_per_tok=2))


def mixtral() -> nn.Module:
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**TINY, num_local_experts=4))


def qwen3_5_moe() -> nn.Module:
    """The text model alone: the published checkpoint has ``language_model`` in its names, this class has not."""
    layers = ["full_attention"] * 2
    config = transformers.Qwen3_5MoeTextConfig(
        **TINY, **EXPERTS, shared_expert_intermediate_size=64, layer_types=layers
    )
    return transformers.Qwen3_5MoeForCausalLM(config)


def qwen3_omni_moe() -> nn.Module:
    """A thinker and a talker whose experts differ in size."""
    one = {**SIZES, "num_hidden_layers": 1, "vocab_size": 64}
    text = {**one, **EXPERTS, "rope_parameters": ROPE}
    vision = {**one, "depth": 1, "num_heads": 2, "out_hidden_size": 64, "deepstack_visual_indexes": [0]}
    audio = {"d_model": 64, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "output_dim": 64}
    wave = {**one, "decoder_dim": 64, "codebook_size": 64, "upsample_rates": [2], "upsampling_ratios": [2]}
    config = transformers.Qwen3OmniMoeConfig(
        thinker_config={
            "text_config": text,
            "vision_config": {**vision, "num_position_embeddings": 16},
            "audio_config": {**audio, "num_mel_bins": 16, "downsample_hidden_size": 16},
            "vision_start_token_id": 1,  # this and two more have no default
        },
        talker_config={
            "text_config": {**text, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64},
            "code_predictor_config": {**one, "head_dim": 32, "num_code_groups": 2},
            "thinker_hidden_size": 64,
            "spatial_merge_size": 2,
        },
        code2wav_config={**wave, "num_key_value_heads": 2, "num_quantizers": 2},
        enable_audio_output=True,
    )
    return transformers.Qwen3OmniMoeForConditionalGeneration(config)


MODELS: dict[str, Callable[[], nn.Module]] = {
    model.__name__: model for model in (qwen3_moe, olmoe, mixtral, qwen3_5_moe, qwen3_omni_moe)
}


@cache
def model_of(name: str) -> nn.Module:
    """A tiny model in bf16 whose experts are drawn."""
    torch.manual_seed(7)
    model = tiny_model() if name == "primer" else MODELS[name]().bfloat16()
    if name != "primer":
        for module in experts_of(model).values():
            for weights in module.parameters():
                nn.init.normal_(weights, std=0.05)
    return model.requires_grad_(False)


def experts_of(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if name.endswith(".experts")}


def pools_of(model: nn.Module) -> list[Pool]:
    """The experts of a model, one pool for each size."""
    layers: dict[ExpertShape, list[str]] = {}
    modules = experts_of(model)
    for name, module in modules.items():
        layers.setdefault(ExpertShape(*module.down_proj.shape[1:]), []).append(name)
    return [
        Pool(f"pool {index}", tuple(names), modules[names[0]].num_experts, shape)
        for index, (shape, names) in enumerate(layers.items())
    ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a model's checkpoint as transformers saves it, by name."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def save(name: str) -> Path:
        if not (folder / name).exists():
            model_of(name).save_pretrained(folder / name)
        return folder / name

    return save


def stacked(source: Path, folder: Path, model: nn.Module, rename: Callable[[str], str] = str) -> Path:
    """The checkpoint written anew with the experts of each layer in two stacks, as newer checkpoints have them."""
    folder.mkdir()
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    tensors = {name: tensor for name, tensor in load_file(source / SINGLE).items() if ".experts." not in name}
    for name, module in experts_of(model).items():
        tensors |= {rename(f"{name}.{part}"): tensor for part, tensor in module.named_parameters()}
    save_file(tensors, folder / SINGLE)
    return folder


def edited(source: Path, folder: Path, edit: Callable[[dict[str, Tensor]], None]) -> Path:
    """A copy of the checkpoint whose tensors went through ``edit``."""
    folder.mkdir()
    tensors = load_file(source / SINGLE)
    edit(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / SINGLE)
    return folder


def checksum(path: Path) -> str:
    with Slab.open(path) as slab:
        slab.verify()
        return slab.checksum


def assert_holds(path: Path, model: nn.Module) -> None:
    """Every record has the bytes and block maxima that bitsandbytes makes of that expert."""
    functional = pytest.importorskip("bitsandbytes.functional")
    modules = experts_of(model)
    with Slab.open(path) as slab:
        assert sorted(name for pool in slab.pools for name in pool.layers) == sorted(modules)
        for pool, layer, expert in slab.contents.every_key():
            shape, module = slab.pools[pool].shape, modules[slab.pools[pool].layers[layer]]
            held = torch.empty(shape.record_bytes, dtype=torch.uint8)
            slab.read(pool, layer, expert, held)
            for matrix, weights in ((shape.gate_up, module.gate_up_proj), (shape.down, module.down_proj)):
                packed, absmax = record.take(held, matrix, slab.layout)
                expected, state = functional.quantize_4bit(weights[expert], quant_type="nf4", blocksize=nf4.BLOCK)
                assert torch.equal(packed.flatten(), expected.flatten())
                assert torch.equal(absmax, state.absmax)
            assert not held[shape.used_bytes :].any()


@pytest.mark.parametrize("layout", ["rows", "tiles"])
@pytest.mark.parametrize("name", MODELS)
def test_every_expert_is_stored_with_the_bytes_of_bitsandbytes(name, layout, checkpoint, tmp_path):
    model = model_of(name)
    convert(checkpoint(name), tmp_path / "experts.slab", pools_of(model), layout=layout)
    assert_holds(tmp_path / "experts.slab", model)


def test_rows_are_bitsandbytes_own_layout(checkpoint, tmp_path):
    functional = pytest.importorskip("bitsandbytes.functional")
    model = model_of("qwen3_moe")
    pools = pools_of(model)
    convert(checkpoint("qwen3_moe"), tmp_path / "experts.slab", pools)
    weights = experts_of(model)[pools[0].layers[1]].gate_up_proj[2]
    held, gate_up = torch.empty(pools[0].shape.record_bytes, dtype=torch.uint8), pools[0].shape.gate_up
    with Slab.open(tmp_path / "experts.slab") as slab:
        slab.read(0, 1, 2, held)
    packed, state = functional.quantize_4bit(weights, quant_type="nf4", blocksize=nf4.BLOCK)
    assert torch.equal(gate_up.packed(held).flatten(), packed.flatten())
    assert torch.equal(gate_up.absmax(held), state.absmax)


@pytest.mark.parametrize("name", MODELS)
def test_stacks_and_single_experts_give_the_same_slab(name, checkpoint, tmp_path):
    model = model_of(name)
    with safe_open(checkpoint(name) / SINGLE, "pt") as file:
        assert any(".experts.0." in key for key in file.keys())  # noqa: SIM118, a file is no dict
    fused = stacked(checkpoint(name), tmp_path / "stacked", model)
    for source, target in ((checkpoint(name), "a.slab"), (fused, "b.slab")):
        convert(source, tmp_path / target, pools_of(model))
    assert checksum(tmp_path / "a.slab") == checksum(tmp_path / "b.slab")


def test_a_primer_is_converted_from_its_stacks(checkpoint, tmp_path):
    model = model_of("primer")
    convert(checkpoint("primer"), tmp_path / "experts.slab", pools_of(model), layout="tiles")
    assert_holds(tmp_path / "experts.slab", model)


def test_a_shipped_primer_keeps_every_weight(tmp_path):
    shipping.ship(model_of("primer"), tmp_path)
    loaded = shipping.load(tmp_path)
    pools = pools_of(loaded)
    convert(tmp_path, tmp_path / "experts.slab", pools)
    held, shape = torch.empty(pools[0].shape.record_bytes, dtype=torch.uint8), pools[0].shape
    with Slab.open(tmp_path / "experts.slab") as slab:
        for _, layer, expert in slab.contents.every_key():
            slab.read(0, layer, expert, held)
            module = experts_of(loaded)[pools[0].layers[layer]]
            for matrix, weights in ((shape.gate_up, module.gate_up_proj), (shape.down, module.down_proj)):
                assert torch.equal(record.dequantise(held, matrix, "rows", torch.float32), weights[expert])


def test_shards_are_read_by_their_index(checkpoint, tmp_path):
    model = model_of("qwen3_moe")
    model.save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    for source, target in ((checkpoint("qwen3_moe"), "a.slab"), (tmp_path / "shards", "b.slab")):
        convert(source, tmp_path / target, pools_of(model))
    assert checksum(tmp_path / "a.slab") == checksum(tmp_path / "b.slab")


@pytest.mark.parametrize(
    ("module", "stored"),
    [
        ("model.layers.1.mlp.experts", "model.language_model.layers.1.mlp.experts"),
        ("model.layers.1.mlp.experts", "layers.1.mlp.experts"),
        ("layers.1.mlp.experts", "model.layers.1.block_sparse_moe.experts"),
        ("model.language_model.layers.1.mlp.experts", "language_model.model.layers.1.mlp.experts"),
        ("model.language_model.layers.1.mlp.experts", "thinker.model.layers.1.mlp.experts"),
        ("thinker.model.language_model.layers.1.mlp.experts", "thinker.model.layers.1.mlp.experts"),
    ],
)
def test_a_module_is_found_under_the_names_of_other_versions(module, stored, tmp_path):
    tensors = {"gate_up_proj": torch.zeros(4, 128, 64), "down_proj": torch.zeros(4, 64, 64)}
    others = ("talker.model.layers.1.mlp.experts", "mtp.layers.1.mlp.experts", "model.layers.11.mlp.experts")
    save_file(
        {f"{start}.{part}": tensors[part].clone() for start in (stored, *others) for part in tensors}, tmp_path / SINGLE
    )
    with Checkpoint(tmp_path) as opened:
        assert find_source(opened, module, 4, ExpertShape(64, 64)).down == f"{stored}.down_proj"


def test_a_name_that_fits_two_layers_is_refused(tmp_path):
    names = ("model.layers.0.mlp.experts", "language_model.layers.0.mlp.experts")
    save_file(
        {f"{name}.{part}": torch.zeros(1) for name in names for part in ("gate_up_proj", "down_proj")},
        tmp_path / SINGLE,
    )
    with Checkpoint(tmp_path) as opened:
        with pytest.raises(SlabError, match="could be one of"):
            opened.experts("layers.0.mlp.experts")
        assert opened.experts(names[0])[0] == names[0]


def transpose(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.endswith(("gate_up_proj", "down_proj")):
            tensors[name] = tensor.mT


def add_biases(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.1.mlp.experts.gate_up_proj_bias"] = torch.zeros(4, 256)


def drop_the_gate(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if "gate_up_proj" in name]:
        tensors[name.replace("gate_up", "up")] = tensors.pop(name)[:, 128:]


def drop_down(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.mlp.experts.down_proj"]


def drop_a_layer(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if "layers.1.mlp.experts" in name]:
        del tensors[name]


def store_scales(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.0.mlp.experts.gate_up_proj_scale_inv"] = torch.zeros(4)


def store_in_8_bits(tensors: dict[str, Tensor]) -> None:
    name = "model.layers.1.mlp.experts.down_proj"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)


def lose_an_expert(tensors: dict[str, Tensor]) -> None:
    name = "model.layers.1.mlp.experts.down_proj"
    tensors[name] = tensors[name][:3]


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (transpose, "gate_up_proj is stored transposed"),
        (add_biases, r"layers\.1\.mlp\.experts have biases"),
        (drop_the_gate, "have no gate"),
        (drop_down, r"layers\.1\.mlp\.experts lack down_proj; fetch the checkpoint again"),
        (drop_a_layer, r"experts of model\.layers\.1\.mlp\.experts are not to be found"),
        (store_scales, "not known, with gate_up_proj_scale_inv: they may be quantised"),
        (store_in_8_bits, "down_proj is stored as F8_E4M3"),
        (lose_an_expert, r"is of size \(3, 64, 128\)"),
    ],
)
def test_stacks_that_cannot_be_converted_are_refused_by_name(edit, sentence, checkpoint, tmp_path):
    model = model_of("qwen3_moe")
    source = edited(stacked(checkpoint("qwen3_moe"), tmp_path / "stacked", model), tmp_path / "edited", edit)
    with pytest.raises(SlabError, match=sentence):
        convert(source, tmp_path / "experts.slab", pools_of(model))
    assert not partial_of(tmp_path / "experts.slab").exists()


def lose_one(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.mlp.experts.2.up_proj.weight"]


def add_one(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if "layers.1.mlp.experts.0." in name]:
        tensors[name.replace("experts.0", "experts.4")] = tensors[name].clone()


def shrink_one(tensors: dict[str, Tensor]) -> None:
    name = "model.layers.0.mlp.experts.3.gate_proj.weight"
    tensors[name] = tensors[name][:64]


def turn_one(tensors: dict[str, Tensor]) -> None:
    name = "model.layers.0.mlp.experts.3.gate_proj.weight"
    tensors[name] = tensors[name].mT


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lose_one, r"lacks model\.layers\.1\.mlp\.experts\.2\.up_proj\.weight; fetch"),
        (add_one, r"layers\.1\.mlp\.experts has more than the 4 experts"),
        (shrink_one, r"experts\.3\.gate_proj\.weight is of size \(64, 64\).* wants \(128, 64\)"),
        (turn_one, r"experts\.3\.gate_proj\.weight is stored transposed"),
    ],
)
def test_single_experts_that_cannot_be_converted_are_refused_by_name(edit, sentence, checkpoint, tmp_path):
    source = edited(checkpoint("qwen3_moe"), tmp_path / "edited", edit)
    with pytest.raises(SlabError, match=sentence):
        convert(source, tmp_path / "experts.slab", pools_of(model_of("qwen3_moe")))


def test_a_weight_that_is_not_finite_is_refused_by_name(checkpoint, tmp_path):
    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors["model.layers.1.mlp.experts.2.up_proj.weight"][3, 3] = torch.nan

    source = edited(checkpoint("qwen3_moe"), tmp_path / "edited", spoil)
    with pytest.raises(SlabError, match=r"expert 2 of model\.layers\.1\.mlp\.experts, .* not finite"):
        convert(source, tmp_path / "experts.slab", pools_of(model_of("qwen3_moe")))


def test_a_folder_without_readable_safetensors_is_refused(checkpoint, tmp_path):
    pools = pools_of(model_of("qwen3_moe"))
    with pytest.raises(SlabError, match="only safetensors checkpoints are read"):
        convert(tmp_path, tmp_path / "experts.slab", pools)
    (tmp_path / SINGLE).write_bytes((checkpoint("qwen3_moe") / SINGLE).read_bytes()[:-100])
    with pytest.raises(SlabError, match="cannot be read; fetch the checkpoint again"):
        convert(tmp_path, tmp_path / "experts.slab", pools)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"model.layers.0.mlp.experts.0.w1.weight": "gone"}}))
    with pytest.raises(SlabError, match="gone is missing"), Checkpoint(tmp_path) as opened:
        opened.tensor("model.layers.0.mlp.experts.0.w1.weight")
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(SlabError, match=f"{INDEX} is missing or cannot be read"):
        convert(tmp_path, tmp_path / "experts.slab", pools)


KILLED = """
import signal, sys
from pathlib import Path
from omni.experts.conversion import convert
from omni.experts.record import ExpertShape
from omni.experts.slab import Pool

def stop_midway(done, total):
    if done * 2 > total:
        signal.pause()

layers = tuple(f"model.layers.{layer}.mlp.experts" for layer in range(2))
convert(Path(sys.argv[1]), Path(sys.argv[2]), [Pool("pool 0", layers, 4, ExpertShape(64, 128))], progress=stop_midway)
"""


def test_a_conversion_killed_midway_goes_on_to_the_same_checksum(checkpoint, tmp_path):
    source, pools = checkpoint("qwen3_moe"), pools_of(model_of("qwen3_moe"))
    convert(source, tmp_path / "whole.slab", pools)
    half = (tmp_path / "whole.slab").stat().st_size // 2
    target = tmp_path / "killed.slab"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", KILLED, source, target], env=environment) as process:
        give_up = time.monotonic() + 120
        try:
            while not partial_of(target).exists() or partial_of(target).stat().st_size <= half:
                assert process.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.02)
        finally:
            process.kill()
    assert not target.exists()
    seen = []
    convert(source, target, pools, progress=lambda done, total: seen.append((done, total)))
    assert 0 < seen[0][0] < seen[-1][0] == seen[-1][1]
    assert checksum(target) == checksum(tmp_path / "whole.slab")


def test_a_slab_that_is_there_already_is_left_alone(checkpoint, tmp_path):
    source, pools, target = checkpoint("qwen3_moe"), pools_of(model_of("qwen3_moe")), tmp_path / "experts.slab"
    convert(source, target, pools)
    before, seen = target.stat().st_mtime_ns, []
    convert(source, target, pools, progress=lambda *bytes_of: seen.append(bytes_of))
    assert target.stat().st_mtime_ns == before
    assert len(seen) == 1


@pytest.mark.parametrize(("first", "second"), [("rows", "tiles"), ("tiles", "rows")])
def test_a_repacked_slab_equals_one_converted_to_that_layout(first, second, checkpoint, tmp_path):
    source, pools = checkpoint("qwen3_omni_moe"), pools_of(model_of("qwen3_omni_moe"))
    for layout in (first, second):
        convert(source, tmp_path / layout, pools, layout=layout)
    with Slab.open(tmp_path / first) as slab:
        repack(slab, tmp_path / "repacked", second)
    assert (tmp_path / "repacked").read_bytes() == (tmp_path / second).read_bytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is counted by Linux")
@pytest.mark.parametrize("form", ["stacked", "single"])
def test_memory_holds_one_expert_at_a_time(form, tmp_path, monkeypatch):
    """A layer of 48 MB, an expert of 1 MB with its record, and 4 MB for the steps of quantising a chunk of it.

    Looks while an expert is quantised: reading the stack, or keeping what was read, would show.
    """
    experts, shape = 64, ExpertShape(512, 256)
    generator = torch.Generator().manual_seed(8)
    stem, tensors = "model.layers.0.mlp.experts", {}
    for name, matrix in (("gate_up_proj", shape.gate_up), ("down_proj", shape.down)):
        weights = torch.randn(1, matrix.rows, matrix.columns, generator=generator).bfloat16()
        tensors[f"{stem}.{name}"] = weights.expand(experts, -1, -1).contiguous()
    if form == "single":
        gate, up = tensors.pop(f"{stem}.gate_up_proj").chunk(2, 1)
        parts = {"gate_proj": gate, "up_proj": up, "down_proj": tensors.pop(f"{stem}.down_proj")}
        for name, stack in parts.items():
            tensors |= {f"{stem}.{expert}.{name}.weight": stack[expert].clone() for expert in range(experts)}
    save_file(tensors, tmp_path / SINGLE)
    parts = weights = gate = up = stack = None
    tensors.clear()

    seen: list[int] = []
    quantise = nf4.quantise
    monkeypatch.setattr(nf4, "quantise", lambda weights: seen.append(anonymous_bytes()) or quantise(weights))
    before = anonymous_bytes()
    convert(tmp_path, tmp_path / "experts.slab", [Pool("experts", (stem,), experts, shape)])
    assert len(seen) == 2 * experts
    assert max(seen) - before < 8 << 20


def anonymous_bytes() -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["RssAnon"].split()[0])


def test_the_identity_follows_the_checkpoint_and_not_its_place(checkpoint, tmp_path):
    source = checkpoint("qwen3_moe")
    first = identity_of(source)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", SINGLE):
        (copy / name).write_bytes((source / name).read_bytes())
    assert identity_of(copy) == first
    (copy / "config.json").write_text("{}")
    assert identity_of(copy) != first
    assert identity_of(checkpoint("olmoe")) != first
    assert identity_of(stacked(source, tmp_path / "stacked", model_of("qwen3_moe"))) != first


def test_a_slab_of_another_checkpoint_is_not_taken_for_this_one(checkpoint, tmp_path):
    convert(checkpoint("qwen3_moe"), tmp_path / "experts.slab", pools_of(model_of("qwen3_moe")))
    Slab.open(tmp_path / "experts.slab", identity_of(checkpoint("qwen3_moe"))).close()
    with pytest.raises(SlabError, match="another checkpoint"):
        Slab.open(tmp_path / "experts.slab", identity_of(checkpoint("olmoe")))


def test_the_bar_in_the_terminal_ends_full(checkpoint, tmp_path, capsys):
    convert(
        checkpoint("qwen3_moe"),
        tmp_path / "experts.slab",
        pools_of(model_of("qwen3_moe")),
        progress=terminal_progress("experts"),
    )
    assert "experts: 100%" in capsys.readouterr().err


def test_weights_of_the_same_sizes_are_another_model_once_they_were_trained_on(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for folder, value in ((before, 0.0), (after, 1e-3)):
        folder.mkdir()
        save_file({"weight": torch.full((512, 512), value)}, folder / "model.safetensors")
    assert identity_of(before) != identity_of(after)
