"""The energy of a reply: counters as Linux lays them out, made here; no machine of ours has any."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni.engines.energy import Meter, processors

RANGE = 262_143_328_850  # microjoules after which a counter starts anew


def zone(powercap: Path, name: str, microjoules: int) -> Path:
    folder = powercap / name
    folder.mkdir()
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


@pytest.fixture
def meter(tmp_path):
    return lambda: Meter(None, tmp_path)


def test_a_meter_tells_what_was_used_since_it_was_made_by_processor(tmp_path, meter):
    first, second = zone(tmp_path, "intel-rapl:0", 5_000_000), zone(tmp_path, "intel-rapl:1", 1_000_000)
    zone(tmp_path, "intel-rapl:0:0", 900)  # its cores: in its sum already
    running = meter()
    first.write_text("7500000")
    second.write_text("1250000")
    assert running.joules() == {"processor 0": 2.5, "processor 1": 0.25}


def test_a_counter_that_starts_anew_goes_on(tmp_path, meter):
    energy = zone(tmp_path, "intel-rapl:0", RANGE - 1_000_000)
    running = meter()
    energy.write_text("2000000")
    assert running.joules()["processor 0"] == pytest.approx(3.0)


@pytest.mark.parametrize("flaw", ["no counter", "no number"])
def test_where_a_counter_cannot_be_read_nothing_is_told(tmp_path, meter, flaw):
    energy = zone(tmp_path, "intel-rapl:0", 1)
    energy.unlink() if flaw == "no counter" else energy.write_text("much")
    assert processors(tmp_path) == {}
    assert meter().joules() == {}


def test_a_machine_without_counters_tells_nothing(tmp_path, meter):
    assert Meter(None, tmp_path / "none").joules() == {}
