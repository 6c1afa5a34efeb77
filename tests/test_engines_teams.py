"""A team of OpenMP threads ends when its thread says so, and forms again when it computes."""

from pathlib import Path

import pytest
import torch

from omni.engines import teams

TASKS = Path("/proc/self/task")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not TASKS.exists(), reason="this system does not tell its threads")
def test_a_team_ends_and_forms_again(two_threads):
    def compute() -> float:
        return torch.ones(1 << 20).mul(2.0).sum().item()

    assert compute() == 2.0 * (1 << 20)
    formed = len(list(TASKS.iterdir()))
    teams.disband()
    if len(list(TASKS.iterdir())) == formed:
        pytest.skip("torch was not built with GNU's OpenMP here")
    assert len(list(TASKS.iterdir())) == formed - 1
    assert compute() == 2.0 * (1 << 20)
    assert len(list(TASKS.iterdir())) == formed


def test_a_system_that_does_not_tell_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(teams, "MAPS", tmp_path / "nowhere")
    teams.disband()
