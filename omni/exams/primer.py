"""What the exam asks of Primer alone: its codes, its 16-bit weights, and the space in which its modalities meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from omni.engines.primer import PrimerEngine
from omni.exams.questions import Film, Picture, Question, Sound
from omni.primer import vocabulary as v
from omni.primer.configuration import PrimerConfig
from omni.primer.modeling import PrimerForCausalLM
from omni.primer.processing import Sequence, Tokenizers
from omni.primer.tokenizers.image import PAINTED, SIZE, to_pixels
from omni.primer.tokenizers.text import normalise


class Codec:
    """Media through Primer's codes and back: the most that any model of these codes could give."""

    def __init__(self, tokenizers: Tokenizers):
        self.tokenizers = tokenizers

    def recoded(self, medium: np.ndarray) -> np.ndarray:
        """A picture (64, 64, 3) uint8, a clip (8, 64, 64, 3) uint8 or samples (N,) float32 after the round trip."""
        if medium.ndim == 3:
            return self._draw(self.tokenizers.encode_images(medium[None])[0])
        if medium.ndim == 4:
            return self._play(*self.tokenizers.encode_clips(medium[None])[0])
        codes = self.tokenizers.encode_sound(medium)
        return self.tokenizers.audio.decode(torch.tensor(codes)).numpy()

    @torch.inference_mode()
    def _draw(self, codes: list[int]) -> np.ndarray:
        return _as_seen(self.tokenizers.image.decode(torch.tensor([codes])))[0]

    @torch.inference_mode()
    def _play(self, first: list[int], later: list[list[int]]) -> np.ndarray:
        images, start = self.tokenizers.image, torch.tensor([first])
        rest = self.tokenizers.video.decode_frame(images, start.expand(len(later), -1), torch.tensor(later))
        return _as_seen(torch.cat([images.decode(start), rest]))


def _as_seen(painted: Tensor) -> np.ndarray:
    """Pictures (B, 3, 128, 128) of 0..1 at the side at which probes look, (B, 64, 64, 3) uint8."""
    return to_pixels(F.avg_pool2d(painted, PAINTED // SIZE))


def unshipped(folder: Path, checkpoint: Path) -> PrimerEngine:
    """The tokenisers of ``folder`` and the weights of a training checkpoint, rounded to bfloat16."""
    model = PrimerForCausalLM(PrimerConfig.from_pretrained(folder))
    state = torch.load(checkpoint, weights_only=True)["model"]
    exact = {name: value.bfloat16().float() if "balance" not in name else value for name, value in state.items()}
    model.load_state_dict(exact)
    model.set_experts_implementation("eager")
    return PrimerEngine(model.eval().requires_grad_(False), Tokenizers.load(folder))


@torch.inference_mode()
def meanings(engine: PrimerEngine, questions: list[Question]) -> Tensor:
    """Unit vectors (N, C) float32: where the contrast head puts the one part of each question."""
    vectors = [_meaning(engine, question.parts[0]) for question in questions]
    return F.normalize(torch.stack(vectors), dim=-1)


def _meaning(engine: PrimerEngine, part: str | Picture | Film | Sound) -> Tensor:
    """(C,) at the last token of a part that opens the user's turn, as the contrast was trained."""
    sequence, tokenizers = Sequence(), engine.tokenizers
    sequence.extend([v.BEGIN, v.USER])
    match part:
        case str():
            sequence.extend(tokenizers.text.encode(normalise(part)))
        case Picture():
            sequence.image(tokenizers.encode_images(part.pixels[None])[0])
        case Film():
            sequence.video(*tokenizers.encode_clips(part.frames[None])[0])
        case Sound():
            sequence.audio(tokenizers.encode_sound(part.samples))
    ids, positions = (x.to(engine.model.device) for x in sequence.tensors())
    hidden = engine.model.model(ids, positions).last_hidden_state[0, -1]
    return engine.model.contrast(hidden).float().cpu()
