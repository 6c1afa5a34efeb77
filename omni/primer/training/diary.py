"""What a training tells of itself as it goes: losses, answers to the same requests, and which experts take what.

One JSON object a line in ``diary.jsonl``: what was told stands when a run is broken off, and the next one writes on.
``report.py`` makes a page of it.
"""

from __future__ import annotations

import base64
import io
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import soundfile
import torch
from torch import Tensor

from omni.experts.stats import mutual_information, shares_of
from omni.primer import sampling
from omni.primer import vocabulary as v
from omni.primer.modeling import PrimerForCausalLM
from omni.primer.processing import IMAGE_CODES, Sequence, Tokenizers
from omni.primer.tokenizers.audio import RATE
from omni.primer.tokenizers.image import to_pixels
from omni.primer.tokenizers.text import normalise
from omni.primer.tokenizers.video import LATER_CODES

FILE = "diary.jsonl"
MODALITIES = "text", "visual", "audio"
REQUESTS = (
    "hello",
    "what is two plus three",
    "draw a cat on blue",
    "draw three red hearts on green",
    "draw a penguin above a cake on yellow",
    "make a clip of a ball that bounces",
    "say a dog on green",
    "tell me a story about a fox and a bee",
)


def note(folder: Path, **entry: Any) -> None:
    """Write one more line."""
    with (folder / FILE).open("a") as file:
        file.write(json.dumps(entry) + "\n")


def entries(folder: Path) -> list[dict[str, Any]]:
    """All lines; one that was broken off is left out."""
    if not (folder / FILE).exists():
        return []
    found = []
    for line in (folder / FILE).read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


@torch.inference_mode()
def answers(model: PrimerForCausalLM, tokenizers: Tokenizers) -> list[dict[str, Any]]:
    """What the model answers to each of REQUESTS: its words, and as data URLs its ``pictures`` and its ``sound``."""
    return [_answer(model, tokenizers, request) for request in REQUESTS]


def _answer(model: PrimerForCausalLM, tokenizers: Tokenizers, request: str) -> dict[str, Any]:
    sequence = Sequence()
    sequence.extend([v.BEGIN, v.USER, *tokenizers.text.encode(normalise(request)), v.ASSISTANT])
    made: dict[str, list[int]] = defaultdict(list)
    sentences: list[list[int]] = []
    try:
        for token in sampling.reply(sampling.Decoder(model, sequence, sampling.Plan()), heard=False):
            made[token.kind].append(token.value)
            if token.kind == "mark" and token.value in (v.WRITE, v.SPEAK):
                sentences.append([])
            elif token.kind in ("text", "word"):
                sentences[-1].append(token.value)
    except sampling.OutOfTokens:
        pass
    sound = made["speech"] or made["film-audio"] or made["sound"]
    pictures = [tokenizers.image.decode(codes[None]) for codes in torch.tensor(made["image"]).split(IMAGE_CODES)
                if len(codes) == IMAGE_CODES]  # fmt: skip
    frames = [*pictures, *_frames(made["film-visual"], tokenizers)]
    return {
        "asked": request,
        "said": " ".join(tokenizers.text.decode(one).strip() for one in sentences),
        "pictures": [_picture_url(to_pixels(one)[0]) for one in frames],
        "sound": _sound_url(tokenizers.audio.decode(torch.tensor(sound)).numpy()) if sound else None,
    }


def _frames(codes: list[int], tokenizers: Tokenizers) -> list[Tensor]:
    """A clip's codes to as many frames, (1, 3, 128, 128), as they complete."""
    if len(codes) < IMAGE_CODES:
        return []
    first = torch.tensor([codes[:IMAGE_CODES]])
    later = torch.tensor(codes[IMAGE_CODES:]).split(LATER_CODES)
    return [tokenizers.image.decode(first)] + [
        tokenizers.video.decode_frame(tokenizers.image, first, one[None]) for one in later if len(one) == LATER_CODES
    ]


def _picture_url(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _sound_url(samples: np.ndarray) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC")
    return f"data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode()}"


@torch.no_grad()
def expert_use(model: PrimerForCausalLM, batches: Iterable[dict[str, Tensor]]) -> dict[str, Any]:
    """How many tokens of each of MODALITIES each expert takes, (layers, modalities, experts), and what that tells.

    ``information`` is the normalised mutual information of modality and expert by layer. Marks count as text.
    """
    shares = sum(_shares(model, batch) for batch in batches)
    return {"shares": shares.tolist(), "information": [round(one, 4) for one in mutual_information(shares)]}


def _shares(model: PrimerForCausalLM, batch: dict[str, Tensor]) -> np.ndarray:
    real = (batch["ids"] != v.PAD).flatten()
    routing = model.model(batch["ids"], batch["positions"]).routing
    chosen = torch.stack([layer.chosen[real] for layer in routing], 1).cpu().numpy()
    labels = [MODALITIES.index(v.modality(token)) for token in batch["ids"].flatten()[real].tolist()]
    return shares_of(chosen, labels, len(MODALITIES), model.config.num_experts)
