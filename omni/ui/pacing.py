"""Lets an engine run at its own speed and the page update at a steady one.

The engine's generator runs in a thread of its own, so that words never wait for the model's next step, a stop is
heard at once, and the generator is closed by the thread that runs it. Knows nothing of Gradio.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain

from omni.events import Event

PAUSE = 0.1  # seconds between two updates of the page: what an old phone can still draw
HEARTBEAT = 0.2  # seconds after which an empty update says that the model is still at work
REMEMBERED = 1000  # replies that were ended before they began, the latest of them


@dataclass
class _Running:
    """A reply on its way: what has arrived (None is its end), and whether it should end."""

    arrived: queue.SimpleQueue[Event | BaseException | None] = field(default_factory=queue.SimpleQueue)
    closed: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        self.closed.set()
        self.arrived.put(None)


class OneAtATime:
    """Runs the replies of one engine, one after the other.

    State: whether the model is taken and who waits for it, those that have patience apart; the replies that are running
    by name, and the names of those that were ended.
    """

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._taken = False
        self._waiting: dict[bool, deque[object]] = {False: deque(), True: deque()}
        self._running: dict[str, _Running] = {}
        self._ended: deque[str] = deque(maxlen=REMEMBERED)

    @contextmanager
    def turn(self, patient: bool = False) -> Iterator[None]:
        """Have the model alone: first come, first served, and the patient only when nobody else waits."""
        mine, line = object(), self._waiting[patient]
        with self._moved:
            line.append(mine)
            self._moved.wait_for(lambda: not self._taken and next(chain(*self._waiting.values())) is mine)
            line.popleft()
            self._taken = True
        try:
            yield
        finally:
            with self._moved:
                self._taken = False
                self._moved.notify_all()

    @contextmanager
    def replying(
        self, name: str, reply: Callable[[], Generator[Event]], pause: float = PAUSE, patient: bool = False
    ) -> Iterator[Iterator[list[Event]]]:
        """Start ``reply``; its events come in batches ``pause`` seconds apart, an empty one as a sign of life.

        Leaving the context returns at once and closes the engine's generator as soon as its present step ends; the
        next reply waits for that. Errors of the engine are raised by the batches. A reply whose end came before its
        begin has no batches. See ``turn`` for those that are ``patient``.
        """
        running = _Running()
        self._running[name] = running
        if name in self._ended:
            running.end()
        context = contextvars.copy_context()  # the request of the visitor, which a GPU lease is bound to
        work = (self._speak, reply, running, patient)
        threading.Thread(target=context.run, args=work, name="reply", daemon=True).start()
        try:
            yield _batches(running.arrived, pause)
        finally:
            running.end()
            del self._running[name]

    @property
    def is_free(self) -> bool:
        """Whether nobody has the model or waits for it."""
        return not self._taken and not any(self._waiting.values())

    def is_running(self, name: str) -> bool:
        """Whether the reply has begun and its context was not left yet."""
        return name in self._running

    def end(self, name: str) -> None:
        """Let the batches of the reply end; where it has not begun, it never will."""
        self._ended.append(name)
        if running := self._running.get(name):
            running.end()

    def _speak(self, reply: Callable[[], Generator[Event]], running: _Running, patient: bool) -> None:
        """Forward what the engine says until it or the reply ends; runs in the reply's own thread."""
        try:
            with self.turn(patient):
                if running.closed.is_set():
                    return
                with closing(reply()) as events:
                    for event in events:
                        running.arrived.put(event)
                        if running.closed.is_set():
                            return
        except BaseException as error:  # whatever it is, it belongs to the one who reads the events
            running.arrived.put(error)
        finally:
            running.arrived.put(None)


def _batches(arrived: queue.SimpleQueue, pause: float) -> Iterator[list[Event]]:
    last = 0.0
    while True:
        try:
            items = [arrived.get(timeout=HEARTBEAT)]
        except queue.Empty:
            yield []
            continue
        time.sleep(max(0.0, last + pause - time.monotonic()))
        while not arrived.empty():
            items.append(arrived.get())
        last = time.monotonic()
        over = next((place for place, item in enumerate(items) if not isinstance(item, Event)), None)
        if events := items[:over]:
            yield events
        if over is not None:
            if isinstance(items[over], BaseException):
                raise items[over]
            return
