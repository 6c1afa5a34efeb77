"""Choosing the next token, as transformers' ``generate`` does, with a random generator of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.generation import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn; a ``temperature`` of 0 takes the likeliest."""

    temperature: float = 1.0
    top_k: int = 0  # 0 for all
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    @property
    def greedy(self) -> Sampling:
        """The same without chance."""
        return Sampling(0.0, repetition_penalty=self.repetition_penalty)


class Chooser:
    """Draws tokens one after the other. State: those drawn so far, and the random generator."""

    def __init__(self, sampling: Sampling, seed: int, device: torch.device, never: Sequence[int] = ()):
        """``never``: tokens that must not be drawn."""
        self.sampling = sampling
        self.generator = torch.Generator(device).manual_seed(seed)
        self.chosen = torch.empty(1, 0, dtype=torch.long, device=device)
        steps = LogitsProcessorList()
        if sampling.repetition_penalty != 1.0:
            steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        if never:
            steps.append(SuppressTokensLogitsProcessor(list(never), device=device))
        if sampling.temperature > 0:
            steps.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                steps.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                steps.append(TopPLogitsWarper(sampling.top_p))
        self.steps = steps

    def choose(self, logits: Tensor) -> Tensor:
        """The next token, (1, 1) int64, from logits (1, vocabulary)."""
        scores = self.steps(self.chosen, logits.float())
        if self.sampling.temperature > 0:
            token = torch.multinomial(scores.softmax(-1), 1, generator=self.generator)
        else:
            token = scores.argmax(-1, keepdim=True)
        if self.sampling.repetition_penalty != 1.0:
            self.chosen = torch.cat([self.chosen, token], dim=1)
        return token
