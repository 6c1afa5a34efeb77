"""What an engine says while it answers, in the order in which it happens.

Arrays are plain numpy; files are made from them by ``omni.media``, never by an engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class TextDelta:
    """More written words, to be appended to what came before."""

    text: str


@dataclass(frozen=True)
class Heard:
    """What the engine understood of the sound that the user sent, in words; comes before the reply."""

    text: str


@dataclass(frozen=True)
class SpeechChunk:
    """Speech that follows on from the chunk before it, without gap or overlap."""

    samples: np.ndarray  # (N,) float32 mono, -1..1
    rate: int  # samples a second
    start: int  # index of the first sample in the whole utterance


@dataclass(frozen=True)
class ImagePreview:
    """The picture as far as it is known; at least four come before each ImageReady."""

    pixels: np.ndarray  # (H, W, 3) uint8
    done: float  # 0..1


@dataclass(frozen=True)
class ImageReady:
    """A finished picture."""

    pixels: np.ndarray  # (H, W, 3) uint8
    caption: str = ""


@dataclass(frozen=True)
class ClipPreview:
    """One more frame of the clip that is being made."""

    frame: np.ndarray  # (H, W, 3) uint8
    index: int
    total: int


@dataclass(frozen=True)
class ClipReady:
    """A finished clip, frames and sound on one clock."""

    frames: np.ndarray  # (T, H, W, 3) uint8
    fps: float
    samples: np.ndarray  # (N,) float32 mono; empty where the clip is silent
    rate: int
    caption: str = ""


@dataclass(frozen=True)
class Progress:
    """What the engine is doing, in a few words."""

    doing: str
    done: float | None = None  # 0..1 where it is known


@dataclass(frozen=True)
class Routed:
    """Tokens that follow one another and went through the same experts' layers, and the experts that took each.

    A token that nothing came after went through no layer: its experts are -1.
    """

    pool: str  # which part of the model the layers belong to, such as "thinker"
    read: bool  # part of what was asked, not of the reply
    kinds: tuple[str, ...]  # (T,) text, image, audio, video, speech, or mark for what only steers
    pieces: tuple[str, ...]  # (T,) what each token stands for in words; empty for a code
    experts: np.ndarray  # (T, layers, experts a token) int16
    of: int  # how many experts a layer has


@dataclass(frozen=True)
class Telemetry:
    """What went on inside since the last of these, where the wish asks for it.

    Counters are those of the reply so far.
    """

    seconds: float  # since the start of the reply
    routed: tuple[Routed, ...]  # in the order in which the tokens were made
    tokens_out: dict[str, int]  # by modality
    experts_used: int  # see Usage
    experts_fetched: int
    bytes_fetched: int
    stalled: float  # seconds in which the computation waited for an expert
    held_bytes: int  # that experts take in the fast memory now
    budget_bytes: int  # that they may take


@dataclass(frozen=True)
class Span:
    """A stage of a reply, in seconds since its start. Stages overlap where one is made while another goes on."""

    name: str  # intake, prefill, or a modality
    start: float
    end: float


@dataclass(frozen=True)
class Usage:
    """What a reply took. Times are seconds from the start of the reply, None where that never came."""

    tokens_in: dict[str, int] = field(default_factory=dict)  # by modality: text, image, audio, video
    tokens_out: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    speech_seconds: float = 0.0  # length of the speech that was made
    first_text: float | None = None
    first_speech: float | None = None
    image: float | None = None  # when the first picture stood
    clip: float | None = None
    experts_used: int = 0  # times that a layer sent a token to an expert, or many tokens at once
    experts_fetched: int = 0  # of them, those that had to be brought into memory first
    bytes_fetched: int = 0
    stalled: float = 0.0  # seconds in which the computation waited for an expert
    peak_memory_mb: float | None = None
    spans: tuple[Span, ...] = ()  # in the order in which they began
    joules: dict[str, float] = field(default_factory=dict)  # by device, of the whole device; empty where none tells


@dataclass(frozen=True)
class Finished:
    """The last event of every reply that was not closed from outside."""

    usage: Usage
    reason: Literal["end", "length", "cut"] = "end"  # the model's own, at its most tokens, or broken off by a fault
    why: str = ""  # the fault, in a sentence for the user


Event = (
    Heard
    | TextDelta
    | SpeechChunk
    | ImagePreview
    | ImageReady
    | ClipPreview
    | ClipReady
    | Progress
    | Telemetry
    | Finished
)
