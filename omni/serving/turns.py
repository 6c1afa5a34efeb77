"""One model, one reply at a time: the page and the programs wait in one line."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from omni.conversation import Conversation
from omni.engine import Engine, Wish, Wrapped
from omni.errors import OmniError
from omni.events import Event, Progress

BEAT = 0.2  # seconds between two signs of life of one that waits; it can be closed at each


class Full(OmniError):
    """So many wait already that one more is turned away."""


class InTurn(Wrapped):
    """An engine whose replies wait for one another, first come, first served. State: the line, its first is served."""

    def __init__(self, engine: Engine, places: int):
        """``places``: how many may wait while one is served."""
        super().__init__(engine)
        self.places = places
        self._line: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many wait for the one that is served."""
        return max(0, len(self._line) - 1)

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """See omni.engine.Engine. Raises Full where there is no place left."""
        mine = self._join()
        try:
            while not mine.is_set():
                yield Progress("Waiting for the model")
                mine.wait(BEAT)
            yield from self.engine.reply(conversation, wish)
        finally:
            self._leave(mine)

    def _join(self) -> threading.Event:
        mine = threading.Event()
        with self._lock:
            if len(self._line) > self.places:
                raise Full("Too many people are waiting; please try again soon.")
            self._line.append(mine)
            self._line[0].set()
        return mine

    def _leave(self, mine: threading.Event) -> None:
        with self._lock:
            self._line.remove(mine)
            if self._line:
                self._line[0].set()
