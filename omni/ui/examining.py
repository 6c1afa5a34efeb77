"""The one exam that is sat in the house: in a thread of its own, question by question between the visitors' replies.

Knows nothing of Gradio, and of the exam no more than omni.examiner.
"""

from __future__ import annotations

import contextvars
import queue
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from omni.conversation import Conversation
from omni.engine import Engine, Wish, Wrapped
from omni.errors import OmniError
from omni.events import Event
from omni.examiner import Examiner, Standing
from omni.ui.pacing import OneAtATime

BEAT = 0.5  # seconds after which a sign of life is given; whoever left is noticed at each
TAKEN = "Another exam is on its way on this server; please wait until it is done."


class Over(Exception):
    """The exam was ended in the middle of a question."""


class BetweenReplies(Wrapped):
    """An engine whose every reply waits until no visitor does, and raises Over soon after the event ``over`` is set."""

    def __init__(self, engine: Engine, model: OneAtATime, over: threading.Event):
        super().__init__(engine)
        self.model, self.over = model, over

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """See omni.engine.Engine."""
        context = self.model.replying(
            secrets.token_hex(8), lambda: self.engine.reply(conversation, wish), pause=0.0, patient=True
        )
        with context as batches:
            for events in batches:
                if self.over.is_set():
                    raise Over
                yield from events


@dataclass
class _Exam:
    """An exam on its way: whose, what has arrived of it (None is its end), and whether it should end."""

    visitor: str
    arrived: queue.SimpleQueue[Standing | BaseException | None] = field(default_factory=queue.SimpleQueue)
    over: threading.Event = field(default_factory=threading.Event)


class Examining:
    """State: the exam that is being sat, None where there is none."""

    def __init__(self, engine: Engine, model: OneAtATime, examiner: Examiner):
        self.engine, self.model, self.examiner = engine, model, examiner
        self._now: _Exam | None = None
        self._lock = threading.Lock()

    @property
    def visitor(self) -> str | None:
        """Whose exam is being sat."""
        now = self._now
        return now and now.visitor

    def end(self, visitor: str) -> None:
        """Let the exam of this visitor end with the present question, unanswered."""
        now = self._now
        if now is not None and now.visitor == visitor:
            now.over.set()

    def sit(self, visitor: str, anew: bool = False) -> Iterator[tuple[Standing | None, float | None]]:
        """How far the exam is and how many seconds are left per question, None where that is not known or not news.

        Closing it ends the exam too. Raises OmniError, also where another exam is being sat.
        """
        exam = self._begin(visitor)
        context = contextvars.copy_context()  # the request of the visitor, which a GPU lease is bound to
        threading.Thread(target=context.run, args=(self._work, exam, anew), name="exam", daemon=True).start()
        began, first = time.monotonic(), None
        try:
            while True:
                try:
                    news = exam.arrived.get(timeout=BEAT)
                except queue.Empty:
                    yield None, None
                    continue
                if not isinstance(news, Standing):
                    break
                first = news.answered if first is None else first
                done = news.answered - first
                yield news, (time.monotonic() - began) / done if done else None
        finally:
            exam.over.set()
        if news is not None:
            raise news

    def _begin(self, visitor: str) -> _Exam:
        with self._lock:
            if self._now is not None:
                raise OmniError(TAKEN)
            self._now = _Exam(visitor)
            return self._now

    def _work(self, exam: _Exam, anew: bool) -> None:
        """Runs in the exam's own thread."""
        end = None
        try:
            engine = BetweenReplies(self.engine, self.model, exam.over)
            with closing(self.examiner.sit(engine, anew)) as steps:
                for standing in steps:
                    exam.arrived.put(standing)
                    if exam.over.is_set():
                        break
        except Over:
            pass
        except BaseException as error:  # whatever it is, it belongs to the one who reads the news
            end = error
        finally:
            self._now = None
            exam.arrived.put(end)
