"""The energy that a reply took, as far as the machine counts it: RAPL for processors, NVML for an NVIDIA GPU.

Both count whole devices, with whatever else runs on them. Where there is no counter, or it may not be read (RAPL is
root's on most systems), nothing is told rather than estimated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

POWERCAP = Path("/sys/class/powercap")
Counter = Callable[[], float]  # joules since some moment


class Meter:
    """State: the counters of this machine by device, and where they stood when the meter was made."""

    def __init__(self, on_gpu: torch.device | None, powercap: Path = POWERCAP):
        """``on_gpu``: the GPU that computes, None where it is a processor."""
        self._counters = {**processors(powercap), **(gpu(on_gpu) if on_gpu is not None else {})}
        self._before = {name: counter() for name, counter in self._counters.items()}

    def joules(self) -> dict[str, float]:
        """Joules since the meter was made, by device; empty where none is counted."""
        return {name: counter() - self._before[name] for name, counter in self._counters.items()}


def processors(powercap: Path) -> dict[str, Counter]:
    """RAPL's counters of whole processors, those that may be read."""
    found = {}
    for zone in sorted(powercap.glob("intel-rapl:*")):
        if zone.name.count(":") != 1:  # a part of a processor, counted already
            continue
        try:
            found[f"processor {zone.name.partition(':')[2]}"] = _rapl(zone)
        except (OSError, ValueError):
            continue
    return found


def _rapl(zone: Path) -> Counter:
    """The counter of one zone, which starts anew at its range. Raises OSError where it may not be read."""
    energy, largest = zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())
    last, turns = int(energy.read_text()), 0

    def counter() -> float:
        nonlocal last, turns
        now = int(energy.read_text())
        turns += now < last
        last = now
        return (turns * largest + now) / 1e6

    return counter


def gpu(device: torch.device) -> dict[str, Counter]:
    """NVML's counter of the GPU that computes; none before Volta, and none without the package nvidia-ml-py."""
    try:
        import pynvml
    except ImportError:
        return {}
    import torch

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (RuntimeError, AttributeError, pynvml.NVMLError):
        return {}
    return {"GPU": lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000}
