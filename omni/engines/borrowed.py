"""Replies on a GPU that is lent for each of them (Hugging Face ZeroGPU); anywhere else an engine stays as it is.

A lent GPU is seen by a process that is forked for one reply and then gone. It begins with what was put on the GPU
before the first reply, and nothing that it brings there outlasts it; threads and pinned memory are made in the process
that first uses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import spaces
from spaces.config import Config

from omni.conversation import Conversation
from omni.engine import Capabilities, Engine, Wish, Wrapped
from omni.events import Event

READING = 10.0  # seconds until the first token, with the way to the GPU and back
TOKENS_A_SECOND = {"text": 20.0, "speech": 8.0}  # estimates, on the safe side; every second asked for is paid for
LONGEST = 120


def lent_bytes() -> int | None:
    """Memory of the GPU that is lent for each reply, which is not there to be asked before; None where none is lent."""
    return Config.zerogpu_cuda_total_memory if Config.zero_gpu else None


def at_once(budget: int | None) -> bool:
    """Whether all experts go to the GPU before any reply: where one is lent, and no ``budget`` keeps them off it."""
    return budget is None and lent_bytes() is not None


def seconds_for(conversation: Conversation, wish: Wish) -> int:
    """How long the GPU is asked for: a reply of full length, spoken unless the wish is for text alone."""
    kind = "text" if wish.outputs is not None and "speech" not in wish.outputs else "speech"
    return min(LONGEST, round(READING + wish.max_tokens / TOKENS_A_SECOND[kind]))


class Borrowing(Wrapped):
    """An engine whose every reply asks for a GPU first."""

    def __init__(self, engine: Engine):
        super().__init__(engine)
        self._reply = spaces.GPU(engine.reply, duration=seconds_for)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the engine, but for drafts: a GPU that is lent is not asked for on suspicion."""
        return replace(self.engine.capabilities, eager=False)

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """See omni.engine.Engine."""
        return self._reply(conversation, wish)
