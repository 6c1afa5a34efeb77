"""What each engine would need on this machine: told from settings, configurations and what is free, and nothing loaded.

No address and no path of the host's is told, for every visitor may read it.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import psutil

from omni.lineup import Candidate
from omni.settings import Settings

WORDS = {"primer": "Primer", "qwen3-omni": "Qwen3-Omni", "remote": "Remote"}
PRIMER = Path(__file__).parents[1] / "primer" / "weights"
PRIMER_PEAK = 522_000_000  # bytes of a process that draws, without the page, as omni.bench.primer measured
NO_LIBRARY = "The model library {} is not installed here; please install what requirements.txt lists."


def candidates(settings: Settings) -> list[Candidate]:
    """Every engine, the one that ``settings`` name marked."""
    return [_primer(settings), _qwen3_omni(settings), _remote(settings)]


def _primer(settings: Settings) -> Candidate:
    files = [path for path in PRIMER.glob("*") if path.suffix in (".safetensors", ".json")]
    here = any(path.name == "model.safetensors" for path in files)
    return Candidate(
        "primer",
        WORDS["primer"],
        "A small any-to-any model, trained from nothing by this project: text, speech, pictures and clips.",
        (
            ("Runs on", "any CPU, or a GPU"),
            ("Memory", f"{_gigabytes(PRIMER_PEAK)} and the page; {_gigabytes(_free_memory())} are free here"),
            ("Download", f"none: {sum(path.stat().st_size for path in files) / 1e6:.0f} MB come with the program"),
        ),
        "" if here else "Its weights, which come with the program, are missing; please install it again.",
        "python app.py",
        settings.engine == "primer",
    )


def _qwen3_omni(settings: Settings) -> Candidate:
    runs = settings.engine == "qwen3-omni"
    needs, lacks = _needs_of_qwen3_omni(settings)
    return Candidate(
        "qwen3-omni",
        WORDS["qwen3-omni"],
        "Qwen3-Omni-30B-A3B, its experts in 4 bits: text and streaming speech from text, pictures, sound and clips.",
        needs,
        "" if runs else lacks,
        "python app.py --engine qwen3-omni",
        runs,
    )


def _needs_of_qwen3_omni(settings: Settings) -> tuple[tuple[tuple[str, str], ...], str]:
    """What it needs, and why it cannot be had; of its memory the least that works, at the usual length of context."""
    try:
        from omni.engines.qwen3_omni_opening import REPOSITORY, available
    except ModuleNotFoundError as error:
        return (), NO_LIBRARY.format(error.name)
    import torch

    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = settings.model if settings.engine == "qwen3-omni" and settings.model else REPOSITORY
    least, most, checkpoint, slab = _sizes(model, device)
    free = available(torch.device("cuda")) + torch.cuda.memory_reserved() if device == "cuda" else _free_memory()
    here = _gigabytes(free)
    fetched = Path(model).is_dir() or is_fetched(model)
    room = min(_free_disk(_cache()), _free_disk(settings.root))
    disk = slab + (0 if fetched else checkpoint)
    needs = (
        ("Runs on", f"one GPU of 8 GB or more, or a CPU; here {'a GPU' if device == 'cuda' else 'a CPU'}"),
        (
            "Memory",
            f"{_gigabytes(least)} at least, {_gigabytes(most)} with all experts; {_gigabytes(free)} are free here",
        ),
        ("Download", "none: the checkpoint is on this machine" if fetched else f"{_gigabytes(checkpoint)}, once"),
        ("Disk", f"{_gigabytes(disk)}; {_gigabytes(room)} are free here"),
    )
    if free < least:
        return needs, f"It needs {_gigabytes(least)} of memory, and {here} are free on this machine."
    if not fetched and room < disk:
        return needs, f"It needs {_gigabytes(disk)} of disk, and {_gigabytes(room)} are free on this machine."
    return needs, ""


@cache
def _sizes(model: str, device: str) -> tuple[int, int, int, int]:
    """Bytes of memory, the least and with all experts; of the checkpoint in 16 bits; of its experts in 4 bits."""
    from omni.experts.plan import DTYPE, blank_plan, find_config, take_inventory

    config = find_config(model)[0]
    inventory = take_inventory(config, device)
    plan = blank_plan(inventory, four_bit_dense=True)
    pools = [held.pool for held in inventory.pools]
    experts = sum(pool.records * 3 * pool.shape.hidden * pool.shape.inner * DTYPE.itemsize for pool in pools)
    dense = sum(whole for whole, _ in take_inventory(config, "cuda").dense.values())  # all of it, in the file
    slab = sum(pool.records * pool.shape.record_bytes for pool in pools)
    return plan.needed_bytes, plan.fixed_bytes + plan.most_bytes, dense + experts, slab


def is_fetched(model: str) -> bool:
    """Whether every shard of a checkpoint lies in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    from omni.engines.qwen3_omni_opening import REPOSITORY, REVISION

    revision = REVISION if model == REPOSITORY else None
    index = try_to_load_from_cache(model, "model.safetensors.index.json", revision=revision)
    if not isinstance(index, str):
        return False
    shards = set(json.loads(Path(index).read_text())["weight_map"].values())
    return all((Path(index).parent / shard).is_file() for shard in shards)


def _remote(settings: Settings) -> Candidate:
    told = "it is set by the host" if settings.base_url else "none is set"
    return Candidate(
        "remote",
        WORDS["remote"],
        "An omni model on another server: vLLM-Omni, SGLang-Omni, DashScope, or another playground.",
        (
            ("Runs on", "another server, which this one talks to"),
            ("Memory", "next to none here"),
            ("Server address", told),
        ),
        "" if settings.base_url else "The host has set no server address; --base-url or OMNI_BASE_URL does.",
        f"python app.py --engine remote --server {settings.server} --base-url ADDRESS",
        settings.engine == "remote",
    )


def _free_memory() -> int:
    """Bytes of RAM that a process in the place of this one could take."""
    return psutil.virtual_memory().available + psutil.Process().memory_info().rss


def _free_disk(folder: Path) -> int:
    """Bytes that are free where ``folder`` is or would be made."""
    there = next(one for one in (folder.resolve(), *folder.resolve().parents) if one.exists())
    return shutil.disk_usage(there).free


def _cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _gigabytes(amount: int) -> str:
    return f"{amount / 1e9:.1f} GB"
