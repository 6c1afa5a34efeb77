"""What each engine needs beside what this machine has, and why one cannot be started here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omni.engines import candidates as engines
from omni.engines.candidates import candidates, is_fetched
from omni.settings import Settings, read_settings

GB = 10**9


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine without a GPU and with 16 GB of RAM and 200 GB of disk, whose hub cache is empty."""
    monkeypatch.setattr(engines, "_free_memory", lambda: 16 * GB)
    monkeypatch.setattr(engines, "_free_disk", lambda _: 200 * GB)
    monkeypatch.setattr(engines, "is_fetched", lambda _: False)
    return monkeypatch


def of(settings: Settings) -> dict[str, engines.Candidate]:
    return {one.name: one for one in candidates(settings)}


def test_the_published_checkpoint_is_told_with_its_true_size(machine):
    qwen = of(Settings(device="cpu"))["qwen3-omni"]
    needs = dict(qwen.needs)
    assert qwen.lacks == "" and needs["Runs on"].endswith("here a CPU")
    assert needs["Download"] == "70.5 GB, once" and needs["Disk"] == "88.5 GB; 200.0 GB are free here"
    assert needs["Memory"].endswith("; 16.0 GB are free here")


def test_too_little_memory_or_disk_is_said_with_both_numbers(machine):
    machine.setattr(engines, "_free_memory", lambda: 4 * GB)
    assert of(Settings(device="cpu"))["qwen3-omni"].lacks == (
        "It needs 6.2 GB of memory, and 4.0 GB are free on this machine."
    )
    machine.setattr(engines, "_free_memory", lambda: 16 * GB)
    machine.setattr(engines, "_free_disk", lambda _: 50 * GB)
    assert "88.5 GB of disk, and 50.0 GB are free" in of(Settings(device="cpu"))["qwen3-omni"].lacks
    machine.setattr(engines, "is_fetched", lambda _: True)
    qwen = of(Settings(device="cpu"))["qwen3-omni"]
    assert qwen.lacks == "" and "on this machine" in dict(qwen.needs)["Download"]


def test_a_remote_engine_needs_an_address_which_no_visitor_is_told(machine):
    assert "--base-url" in of(Settings())["remote"].lacks
    remote = of(Settings(base_url="http://10.1.2.3/v1", root=Path("/home/host/data")))["remote"]
    assert remote.lacks == "" and "10.1.2.3" not in repr(remote)


@pytest.mark.parametrize("name", ["primer", "qwen3-omni", "remote"])
def test_a_command_starts_its_engine_and_the_one_that_runs_is_marked(machine, name: str):
    settings = Settings(engine=name, device="cpu", base_url="http://127.0.0.1:1/v1")
    assert [one.name for one in candidates(settings) if one.runs] == [name]
    program, script, *flags = of(settings)[name].command.split()
    assert (program, script) == ("python", "app.py") and read_settings(flags, {}).engine == name


def test_a_checkpoint_is_here_when_all_its_shards_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(index))
    (tmp_path / "1.safetensors").touch()
    assert not is_fetched("somebody/model")
    (tmp_path / "2.safetensors").touch()
    assert is_fetched("somebody/model")
