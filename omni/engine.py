"""The protocol that every engine speaks, and what a user may wish for.

The page knows this file and no engine. An engine knows this file and nothing of the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from omni.conversation import Conversation
from omni.events import Event

Modality = Literal["text", "speech", "image", "video"]


@dataclass(frozen=True)
class Wish:
    """What the user wants back. ``outputs`` of None means "as asked": the model decides."""

    outputs: frozenset[Modality] | None = None
    voice: str | None = None  # one of Capabilities.voices; None is the first
    temperature: float = 0.7  # 0 is greedy
    seed: int | None = None  # None draws one
    max_tokens: int = 1200
    aloud: bool = False  # as asked, and what is said is spoken, whatever else the model makes
    telemetry: bool = False  # Telemetry among the events


@dataclass(frozen=True)
class Capabilities:
    """What an engine takes and gives; the page is built from it."""

    inputs: frozenset[str]  # text, image, audio, video
    outputs: frozenset[Modality]
    voices: tuple[str, ...]
    context_tokens: int
    about: str  # one or two sentences for the page
    frames: int = 1  # pictures that one live turn may carry
    eager: bool = False  # a live reply may be begun before the turn is surely over, and thrown away


@dataclass(frozen=True)
class Component:
    """A part of a model: how large it is, in which precision, and where it stands."""

    name: str
    parameters: int
    bytes: int  # that it takes where it stands, all of it
    precision: str  # such as "NF4", "float32"
    where: str  # such as "RAM", "GPU", "as many as the memory allows; the others in the file"


@dataclass(frozen=True)
class Card:
    """What a model is, for people."""

    name: str
    facts: tuple[tuple[str, str], ...]  # name and value
    components: tuple[Component, ...]


@dataclass(frozen=True)
class PoolMemory:
    """The experts of one part of a model: which of them are in the fast memory now."""

    name: str
    resident: np.ndarray  # (layers, experts) bool
    top_k: int  # experts a token
    expert_bytes: int


@dataclass(frozen=True)
class Memory:
    """Where a model is by now, in bytes. On a CPU the fast memory is RAM."""

    device: str  # where it computes, in words
    on_gpu: bool
    pools: tuple[PoolMemory, ...]
    held: int  # that experts take in the fast memory
    budget: int  # that they may take
    least: int  # the smallest budget that works
    most: int  # the largest that the host allows
    everything: int  # what all experts take
    tier: int  # that experts take in RAM below a GPU; 0 on a CPU
    file: int  # of the file that holds all experts
    process: int  # RAM of the whole process
    ram: int  # RAM of the machine
    gpu: int  # taken on the GPU by the model, experts and all; 0 on a CPU
    gpu_total: int


class Inside(Protocol):
    """What an engine shows of its inside, and the one thing that may be changed while it runs."""

    def card(self) -> Card:
        """What the model is."""
        ...

    def memory(self) -> Memory:
        """Where it is by now."""
        ...

    def set_experts_memory(self, budget: int) -> Memory:
        """Let experts take at most ``budget`` bytes from now on, also in the middle of a reply; never another answer.

        Raises OmniError with a sentence for a budget outside of Memory's least and most.
        """
        ...


class Engine(Protocol):
    """An omni model behind the page."""

    name: str
    capabilities: Capabilities  # and, where it can be looked into, ``inside``: see ``inside_of``

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """Answer the last user message, as a synchronous generator that ends with Finished.

        Closing the generator stops the work within one model step and frees what it held. The same seed and
        inputs give the same events. Raises OmniError with a sentence for the user.
        """
        ...


def inside_of(engine: Engine) -> Inside | None:
    """What ``engine`` shows of its inside, its attribute ``inside``; None where it runs elsewhere and shows nothing."""
    return getattr(engine, "inside", None)


class Wrapped:
    """Stands in front of an engine and is known as it; whoever inherits it says what is different about its replies."""

    def __init__(self, engine: Engine):
        self.engine = engine

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def capabilities(self) -> Capabilities:
        return self.engine.capabilities

    @property
    def inside(self) -> Inside | None:
        return inside_of(self.engine)


def bare(engine: Engine) -> Engine:
    """The engine behind all that stands in front of it."""
    while isinstance(engine, Wrapped):
        engine = engine.engine
    return engine
