"""Opening Qwen3-Omni: what cannot be opened is refused with a sentence that names what is wrong."""

from __future__ import annotations

import io
import json
import shutil

import pytest
import torch
from omni_tiny import asked
from safetensors.torch import load_file, save_file

from omni.engine import Wish
from omni.engines import open_engine, qwen3_omni_opening
from omni.engines.qwen3_omni import Qwen3OmniEngine
from omni.errors import OmniError
from omni.events import SpeechChunk
from omni.experts.plan import plan_for
from omni.settings import Settings


@pytest.fixture(scope="module")
def slabs(tmp_path_factory):
    return tmp_path_factory.mktemp("slabs")


@pytest.fixture
def checkpoint(tiny_omni, tmp_path):
    """A copy that may be spoilt."""
    folder = tmp_path / "copy"
    shutil.copytree(tiny_omni, folder, ignore=shutil.ignore_patterns("*.slab"))
    return folder


def _spoil(folder, change):
    """Save the tensors again after ``change``."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


EXPERT = "thinker.model.layers.1.mlp.experts.3.up_proj.weight"
BAD = {
    "without an expert": (lambda tensors: tensors.pop(EXPERT), "lacks .*experts.3.up_proj"),
    "without a dense tensor": (lambda tensors: tensors.pop("talker.codec_head.weight"), "lacks talker.codec_head"),
    "fused differently": (
        lambda tensors: tensors.update({EXPERT: tensors[EXPERT][:32].contiguous()}),
        "experts.3.up_proj.weight is of size",
    ),
}


@pytest.mark.parametrize("flaw", BAD)
def test_a_bad_checkpoint_is_refused_with_what_it_lacks(flaw, checkpoint, tmp_path):
    change, sentence = BAD[flaw]
    _spoil(checkpoint, change)
    with pytest.raises(OmniError, match=sentence):
        Qwen3OmniEngine.open(str(checkpoint), device="cpu", slabs=tmp_path)


def test_a_checkpoint_that_is_cut_off_is_refused(checkpoint, tmp_path):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(OmniError, match="cannot be read; fetch the checkpoint again"):
        Qwen3OmniEngine.open(str(checkpoint), device="cpu", slabs=tmp_path)


def test_a_model_of_another_kind_is_refused(checkpoint, tmp_path):
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "qwen3_moe", "architectures": []}))
    with pytest.raises(OmniError, match="qwen3_moe, and this engine runs Qwen3-Omni"):
        Qwen3OmniEngine.open(str(checkpoint), device="cpu", slabs=tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(OmniError, match="no config.json"):
        Qwen3OmniEngine.open(str(tmp_path), device="cpu")


def test_a_model_that_cannot_be_fetched_is_named(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OmniError, match="no-body/no-model is no folder"):
        Qwen3OmniEngine.open("no-body/no-model", device="cpu")


@pytest.mark.parametrize(("memory", "sentence"), [("1MB", "would do"), ("plenty", "no amount of memory")])
def test_a_memory_that_cannot_work_is_refused_with_one_that_does(memory, sentence, tiny_omni, slabs):
    with pytest.raises(OmniError, match=sentence):
        Qwen3OmniEngine.open(str(tiny_omni), device="cpu", memory=memory, slabs=slabs)


def test_the_settings_open_it_in_the_memory_that_is_planned(tiny_omni, tmp_path, omni_samples):
    """In bfloat16 with its linears in 4 bits, as it is hosted on a CPU."""
    engine = open_engine(Settings(engine="qwen3-omni", model=str(tiny_omni), memory="1.5GB", root=tmp_path))
    assert engine.experts.budget == engine.experts.most_bytes
    assert list(tmp_path.glob("experts/*.slab"))
    events = engine.reply(asked(omni_samples, ("Hello", "picture")), Wish(frozenset({"speech"}), max_tokens=6, seed=1))
    assert any(isinstance(event, SpeechChunk) for event in events)


def test_it_reports_how_far_it_is(tiny_omni, tmp_path):
    told = []
    Qwen3OmniEngine.open(str(tiny_omni), device="cpu", slabs=tmp_path, report=told.append)
    doings = [one.doing for one in told]
    assert doings[0] == "Fetching the checkpoint"
    assert doings[-1] == "Loading the model"
    shares = [one.done for one in told if one.done is not None]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.5 < shares[-1] < 1


def test_all_memory_is_what_the_device_has(tiny_omni, slabs, monkeypatch):
    """Without a plan the process would be killed when the experts come."""
    config = qwen3_omni_opening.config_of(tiny_omni)
    whole = qwen3_omni_opening.room_for(config, "all", torch.device("cpu"))
    assert whole.experts_bytes is None
    assert whole.context_tokens == config.thinker_config.text_config.max_position_embeddings
    needed = plan_for(config, 10**12, "cpu", four_bit_dense=True)
    tight = needed.fixed_bytes + needed.least_bytes + 100_000
    monkeypatch.setattr(qwen3_omni_opening, "available", lambda device: tight)
    part = qwen3_omni_opening.room_for(config, "all", torch.device("cpu"))
    assert needed.least_bytes <= part.experts_bytes < needed.most_bytes
    monkeypatch.setattr(qwen3_omni_opening, "available", lambda device: 1000)
    with pytest.raises(OmniError, match="would do"):
        Qwen3OmniEngine.open(str(tiny_omni), device="cpu", slabs=slabs)


def test_there_is_memory_on_this_machine():
    assert 10**8 < qwen3_omni_opening.available(torch.device("cpu")) < 10**14


def test_a_download_is_told_as_it_comes(monkeypatch, tmp_path):
    def download(*_, tqdm_class, **__):
        """As the hub's client counts: a bar of bytes whose total grows."""
        with tqdm_class(total=0, unit="B", file=io.StringIO()) as bar:
            bar.total = 4_000_000_000
            bar.update(1_500_000_000)
        return str(tmp_path)

    monkeypatch.setattr(qwen3_omni_opening, "snapshot_download", download)
    told = []
    assert qwen3_omni_opening.fetch("some/model", "", told.append) == tmp_path
    assert [one.doing for one in told] == ["Fetching the checkpoint, 1.5 GB so far"]
