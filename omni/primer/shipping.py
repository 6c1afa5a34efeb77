"""Primer on disk: NF4 for the matrices, int8 for the embeddings, fp16 for the rest, in one safetensors file.

``ship`` writes what ``load`` reads. Every tensor of the file is listed in its metadata with its kind and shape, so that
a reader needs nothing else but config.json beside it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from omni.experts import nf4
from omni.primer.configuration import PrimerConfig
from omni.primer.modeling import PrimerForCausalLM

WEIGHTS = Path(__file__).parent / "weights"  # what comes with the package
FILE = "model.safetensors"
INT8_ROWS = ("embed_tokens",)
PLAIN = ("gate.", "contrast")  # routers decide, so they keep their precision


def kind(name: str, tensor: Tensor) -> str:
    """How a tensor is stored: "int8" with a scale a row, "nf4", or "fp16"."""
    if any(part in name for part in INT8_ROWS):
        return "int8"
    if tensor.dim() < 2 or any(part in name for part in PLAIN) or tensor.shape[-1] % nf4.BLOCK:
        return "fp16"
    return "nf4"


def ship(model: PrimerForCausalLM, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    tensors, layout = {}, {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied to the embeddings
        stored = kind(name, tensor)
        layout[name] = {"kind": stored, "shape": list(tensor.shape)}
        tensors |= {f"{name}{suffix}": value for suffix, value in _pack(tensor, stored).items()}
    save_file(tensors, folder / FILE, {"layout": json.dumps(layout)})


def _pack(tensor: Tensor, stored: str) -> dict[str, Tensor]:
    if stored == "nf4":
        packed, absmax = nf4.quantise(tensor)
        return {"": packed, ".absmax": absmax.half()}
    if stored == "int8":
        scale = _row_scale(tensor)
        return {"": (tensor.float() / scale.float()).round().clamp(-127, 127).to(torch.int8), ".scale": scale}
    return {"": tensor.half().contiguous()}


def skeleton(folder: Path) -> PrimerForCausalLM:
    """The model in ``folder`` without memory. Raises OSError where it is missing."""
    if not (folder / FILE).is_file():
        raise FileNotFoundError(folder / FILE)
    with torch.device("meta"):
        return PrimerForCausalLM(PrimerConfig.from_pretrained(folder))


def load(folder: Path, dtype: torch.dtype = torch.float32, model: PrimerForCausalLM | None = None) -> PrimerForCausalLM:
    """The model in ``folder``, its weights unpacked to ``dtype``, ready to run. Raises OSError where it is missing.

    A ``model`` that is given is a skeleton, perhaps with parts taken out; only what it still has is read.
    """
    model = model or skeleton(folder)
    wanted, state = set(model.state_dict()), {}
    with safe_open(folder / FILE, "pt") as file:
        for name, entry in json.loads(file.metadata()["layout"]).items():
            if name not in wanted:
                continue
            state[name] = _unpack(file, name, entry).to(dtype if "balance" not in name else torch.float32)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    model.set_experts_implementation("eager")
    return model.eval().requires_grad_(False)


def _unpack(file, name: str, entry: dict) -> Tensor:
    stored = file.get_tensor(name)
    if entry["kind"] == "nf4":
        return nf4.dequantise(stored, file.get_tensor(f"{name}.absmax"), entry["shape"])
    if entry["kind"] == "int8":
        return stored.float() * file.get_tensor(f"{name}.scale").float()
    return stored.float()


def rounded(name: str, tensor: Tensor) -> Tensor:
    """``tensor`` as it will be after shipping and loading: what 4-bit-aware training computes with."""
    stored = kind(name, tensor)
    if stored == "nf4":
        packed, absmax = nf4.quantise(tensor)
        return nf4.dequantise(packed, absmax.half(), tensor.shape, tensor.dtype)
    if stored == "int8":
        scale = _row_scale(tensor).float()
        return (tensor / scale).round().clamp(-127, 127) * scale
    return tensor


def _row_scale(tensor: Tensor) -> Tensor:
    """What one step of int8 stands for, by row: (N, 1) float16."""
    return (tensor.float().abs().amax(1, keepdim=True) / 127).half().clamp_min(1e-6)
