"""The protocol that every engine speaks, and what a user may wish for.

The page knows this file and no engine. An engine knows this file and nothing of the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

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


@dataclass(frozen=True)
class Capabilities:
    """What an engine takes and gives; the page is built from it."""

    inputs: frozenset[str]  # text, image, audio, video
    outputs: frozenset[Modality]
    voices: tuple[str, ...]
    context_tokens: int
    about: str  # one or two sentences for the page
    frames: int = 1  # pictures that one live turn may carry


class Engine(Protocol):
    """An omni model behind the page."""

    name: str
    capabilities: Capabilities

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """Answer the last user message, as a synchronous generator that ends with Finished.

        Closing the generator stops the work within one model step and frees what it held. The same seed and
        inputs give the same events. Raises OmniError with a sentence for the user.
        """
        ...
