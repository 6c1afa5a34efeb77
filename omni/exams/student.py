"""Primer as the exam meets it: a question goes in as one sequence, its reply comes back as words and media.

Everything goes the way that it goes in the product: tokenisers, grammar, sampling, the tokenisers' decoders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from omni.exams.questions import Film, Picture, Question, Sound
from omni.primer import shipping
from omni.primer import vocabulary as v
from omni.primer.configuration import PrimerConfig
from omni.primer.modeling import PrimerForCausalLM
from omni.primer.processing import FRAMES, IMAGE_CODES, Sequence, Tokenizers
from omni.primer.sampling import Decoder, OutOfTokens, Plan, reply
from omni.primer.tokenizers.image import to_pixels
from omni.primer.tokenizers.text import normalise
from omni.primer.tokenizers.video import LATER_CODES


@dataclass
class Answer:
    """A reply: the transcript of what was heard, its words, and what it made, None where it made none."""

    heard: str = ""
    words: str = ""
    picture: np.ndarray | None = None  # (64, 64, 3) uint8
    frames: np.ndarray | None = None  # (8, 64, 64, 3) uint8
    samples: np.ndarray | None = None  # (N,) float32 at 16 kHz


class Student:
    """A model and its tokenisers. Holds no state between questions."""

    def __init__(self, model: PrimerForCausalLM, tokenizers: Tokenizers, max_tokens: int = Plan.max_tokens):
        self.model, self.tokenizers, self.max_tokens = model, tokenizers, max_tokens

    @classmethod
    def shipped(cls, folder: Path) -> Student:
        """The 4-bit weights in ``folder``."""
        return cls(shipping.load(folder), Tokenizers.load(folder))

    @classmethod
    def unshipped(cls, folder: Path, checkpoint: Path) -> Student:
        """The tokenisers of ``folder`` and the weights of a training checkpoint, rounded to bfloat16."""
        model = PrimerForCausalLM(PrimerConfig.from_pretrained(folder))
        state = torch.load(checkpoint, weights_only=True)["model"]
        exact = {name: value.bfloat16().float() if "balance" not in name else value for name, value in state.items()}
        model.load_state_dict(exact)
        model.set_experts_implementation("eager")
        return cls(model.eval().requires_grad_(False), Tokenizers.load(folder))

    def answer(self, question: Question, seed: int = 0, listen_only: bool = False) -> Answer:
        """The reply to a question; with ``listen_only`` it ends with the transcript."""
        sequence = self._read(question)
        heard = any(isinstance(part, Sound) for part in question.parts)
        plan = Plan(
            spoken=True if question.voice else None,
            voice=question.voice,
            temperature=question.temperature,
            seed=seed,
            max_tokens=self.max_tokens,
        )
        codes: dict[str, list[int]] = {}
        try:
            for token in reply(Decoder(self.model, sequence, plan), heard):
                if listen_only and token.kind != "heard":
                    break
                codes.setdefault(token.kind, []).append(token.value)
        except OutOfTokens:
            pass  # what was said and made before stands
        return self._made(codes)

    def _read(self, question: Question) -> Sequence:
        """The user's turn, up to where Primer is to go on."""
        sequence = Sequence()
        sequence.extend([v.BEGIN, v.USER])
        for part in question.parts:
            match part:
                case str():
                    sequence.extend(self.tokenizers.text.encode(normalise(part)))
                case Picture():
                    sequence.image(self.tokenizers.encode_images(part.pixels[None])[0])
                case Film():
                    sequence.video(*self.tokenizers.encode_clips(part.frames[None])[0])
                case Sound():
                    sequence.audio(self.tokenizers.encode_sound(part.samples))
        sequence.push(v.ASSISTANT)
        return sequence

    def _made(self, codes: dict[str, list[int]]) -> Answer:
        """Words and media of a reply's codes by kind."""
        text = self.tokenizers.text.decode
        words = codes.get("text", []) + codes.get("word", [])
        answer = Answer(text(codes.get("heard", [])).strip(), text(words).strip())
        if len(codes.get("image", [])) >= IMAGE_CODES:
            answer.picture = self.draw(codes["image"][:IMAGE_CODES])
        film = codes.get("film-visual", [])
        if len(film) == IMAGE_CODES + (FRAMES - 1) * LATER_CODES:
            later = np.reshape(film[IMAGE_CODES:], (FRAMES - 1, LATER_CODES)).tolist()
            answer.frames = self.play(film[:IMAGE_CODES], later)
        if sound := codes.get("speech", []) or codes.get("sound", []):
            answer.samples = self.sound(sound)
        return answer

    @torch.inference_mode()
    def draw(self, codes: list[int]) -> np.ndarray:
        """64 codes to a picture (64, 64, 3) uint8."""
        return to_pixels(self.tokenizers.image.decode(torch.tensor([codes])))[0]

    @torch.inference_mode()
    def play(self, first: list[int], later: list[list[int]]) -> np.ndarray:
        """64 codes and 7 x 16 codes to the frames of a clip (8, 64, 64, 3) uint8."""
        images, start = self.tokenizers.image, torch.tensor([first])
        rest = self.tokenizers.video.decode_frame(images, start.expand(len(later), -1), torch.tensor(later))
        return to_pixels(torch.cat([images.decode(start), rest]))

    def sound(self, codes: list[int]) -> np.ndarray:
        """Audio codes to (N,) float32 at 16 kHz."""
        return self.tokenizers.audio.decode(torch.tensor(codes)).numpy()

    def recoded(self, medium: np.ndarray) -> np.ndarray:
        """A picture (64, 64, 3), a clip (8, 64, 64, 3) or samples (N,) after a round trip through their codes."""
        if medium.ndim == 3:
            return self.draw(self.tokenizers.encode_images(medium[None])[0])
        if medium.ndim == 4:
            return self.play(*self.tokenizers.encode_clips(medium[None])[0])
        return self.sound(self.tokenizers.encode_sound(medium))
