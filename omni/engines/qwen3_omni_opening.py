"""Before Qwen3-Omni answers: the checkpoint is fetched and looked at, and its memory is dealt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from huggingface_hub import snapshot_download
from tqdm import tqdm
from transformers import AutoConfig, PreTrainedConfig, Qwen3OmniMoeConfig

from omni.engines.borrowed import lent_bytes
from omni.errors import OmniError
from omni.events import Progress
from omni.experts.cache import BudgetError
from omni.experts.conversion import terminal_progress
from omni.experts.plan import parse_memory, plan_with, take_inventory

REPOSITORY = "Qwen/Qwen3-Omni-30B-A3B-Instruct"
REVISION = "26291f793822fb6be9555850f06dfe95f2d7e695"
FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")
REPORTS = 1.0  # seconds between two words on a download


@dataclass(frozen=True)
class Room:
    """What a memory is dealt to: ``experts_bytes`` of None is all of them."""

    experts_bytes: int | None
    four_bit_dense: bool
    context_tokens: int


def room_for(config: PreTrainedConfig, memory: str, device: torch.device) -> Room:
    """Deal "12GB", or "all" that the device has now. On a CPU, where the bytes of a token are its time, the dense part
    is in 4 bits too; on a card it is where there is no room otherwise.

    Raises ValueError (BudgetError, with the number that would do) where it is too little or no amount.
    """
    inventory = take_inventory(config, device.type)
    longest = config.thinker_config.text_config.max_position_embeddings
    amount = available(device) if memory == "all" else parse_memory(memory)
    packed = device.type == "cpu"
    if memory == "all":  # everything at its longest, if that goes
        with contextlib.suppress(BudgetError):
            plan = plan_with(inventory, amount, longest, packed)
            if plan.experts_bytes >= plan.most_bytes:
                return Room(None, packed, longest)
    try:
        plan = plan_with(inventory, amount, None, packed)
    except BudgetError:
        if packed:
            raise
        plan = plan_with(inventory, amount, None, True)
    return Room(min(plan.experts_bytes, plan.most_bytes), plan.four_bit_dense, plan.context_tokens)


def available(device: torch.device) -> int:
    """Bytes of memory that can be taken on ``device`` now."""
    if device.type == "cuda":
        return lent_bytes() or torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def fetch(model: str, revision: str, report: Callable[[Progress], None]) -> Path:
    """The folder of a checkpoint, from the hub where it is no folder; ``report`` hears of it. Raises OmniError."""
    if Path(model).is_dir():
        return Path(model)
    try:
        revision = revision or (REVISION if model == REPOSITORY else None)
        return Path(
            snapshot_download(model, revision=revision, allow_patterns=list(FILES), tqdm_class=_counting(report))
        )
    except (OSError, ValueError) as error:
        raise OmniError(f"{model} is no folder, and the hub does not give it: {first_line(error)}.") from error


def config_of(folder: Path) -> Qwen3OmniMoeConfig:
    """Raises OSError or ValueError where the folder holds another model, or none."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"there is no config.json in {folder}")
    config = AutoConfig.from_pretrained(folder)
    if not isinstance(config, Qwen3OmniMoeConfig):
        raise ValueError(f"{folder} holds a model of the kind {config.model_type}, and this engine runs Qwen3-Omni")
    return config


def _counting(report: Callable[[Progress], None]) -> type[tqdm]:
    """A progress bar for the terminal that also tells how much has come; how much will, no one knows at first."""

    class Bar(tqdm):
        told = 0.0

        def update(self, n: float | None = 1) -> bool | None:
            shown, now = super().update(n), time.monotonic()
            if self.unit == "B" and now - Bar.told > REPORTS:
                Bar.told = now
                report(Progress(f"Fetching the checkpoint, {self.n / 1e9:.1f} GB so far"))
            return shown

    return Bar


def told(report: Callable[[Progress], None]) -> Callable[[int, int], None]:
    """Follows a conversion in the terminal and in the page."""
    bar = terminal_progress()

    def show(done: int, total: int) -> None:
        bar(done, total)
        writing = Progress("Writing the experts in 4 bits, once", done / total)
        report(writing if done < total else Progress("Loading the model"))

    return show


def first_line(error: Exception) -> str:
    """The first line of what an error says, without a full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".")
