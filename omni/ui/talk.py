"""One live conversation: what is heard and seen becomes turns, a turn is answered aloud, speech over a reply ends it.

Where it costs nobody anything, a reply is begun as soon as somebody pauses and kept back until the turn is over: it is
a draft, and whoever goes on speaking never hears of it.

Knows the engine's protocol, and neither sockets nor pages: what happens is told to one function. Lives on one event
loop; a reply alone runs in a thread, and while it does nothing else writes the visit.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from omni import media
from omni.conversation import Image, Message
from omni.engine import Engine, Wish
from omni.errors import OmniError, Refused
from omni.events import Event, SpeechChunk, TextDelta
from omni.provenance.imprint import Imprint
from omni.provenance.keys import Keys
from omni.ui import visit
from omni.ui.actions import sentence_of
from omni.ui.camera import put_away, spread, taken
from omni.ui.draft import Draft
from omni.ui.echo import Echo
from omni.ui.listening import LONGEST, PAUSE, RATE, Began, Change, Dropped, Ended, Listener, Paused, Resumed
from omni.ui.look import Look
from omni.ui.pacing import OneAtATime
from omni.ui.status import took
from omni.ui.thread import draft_value, message_value

log = logging.getLogger(__name__)

AT_ONCE = 2  # frames that are decoded at the same time; more are passed over
SINCE = 6  # frames of the microphone after the last one with speech, in which the camera is still looked at
AT_MOST = int(LONGEST)  # frames that are kept of a turn: one a second
SPEECH_PAUSE = 0.02  # seconds between two looks at what the engine has said
SHOWN_PAUSE = 0.1  # seconds between two updates of the transcript
NOTHING_MORE = Ended(np.zeros(0, np.float32), -1)
TIME_IS_UP = "The time of this conversation is over; press Start to go on."
NOTHING_SAID = "The model had nothing to say to this; please try again or say it differently."


@dataclass(frozen=True)
class Speech:
    """Told to the player: more of the reply to a turn."""

    turn: int
    chunk: SpeechChunk


@dataclass
class Turn:
    """One thing that somebody said. State: what has become of it."""

    number: int
    ended: Ended
    name: str = ""  # of the reply, once it is asked for
    said: bool = False  # the reply has begun
    interrupted: bool = False
    heard: int = 0  # samples of the reply that were played when it was interrupted
    look: Look | None = None  # at the inside of the reply
    task: asyncio.Task | None = None
    draft: bool = False  # it may go on yet: what is told of the reply is kept back
    kept: list[dict[str, Any] | Speech] = field(default_factory=list)
    decided: threading.Event = field(default_factory=threading.Event)  # it is no draft any more, or withdrawn

    @property
    def unheard(self) -> bool:
        """Whether it was interrupted before anybody could hear of the reply."""
        return self.interrupted and (self.draft or not self.said)

    @property
    def open(self) -> bool:
        """Whether the reply is still being made."""
        return self.task is not None and not self.task.done()


@dataclass
class Talk:
    """One visitor's live conversation. State: the visit, the microphone, what the camera showed, the turn."""

    engine: Engine
    model: OneAtATime
    root: Path
    keys: Keys
    tell: Callable[[dict[str, Any] | Speech], None]
    running: bool = False
    voice: str | None = None
    place: int | None = None  # sample of the reply that sounds as the last frame was heard
    turn: Turn | None = None
    turns: int = 0
    seen: int = 0  # the last turn that took its pictures along
    rate: int = RATE  # of the reply
    listener: Listener = field(default_factory=Listener)
    echo: Echo = field(default_factory=Echo)
    shown: list[Image] = field(default_factory=list)
    looking: set[asyncio.Task] = field(default_factory=set)
    carried: list[np.ndarray] = field(default_factory=list)  # what was said just before, and not answered yet
    end: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.here = visit.enter(self.root)
        self.loop = asyncio.get_running_loop()

    def start(self, seconds: float) -> None:
        """Listen from now on, for so long."""
        self.stop()
        self.running, self.listener.heard = True, 0
        self.end = self.loop.call_later(seconds, self._time_is_up)
        self._state("listening")

    def stop(self) -> None:
        """Hear nothing any more, and end the reply."""
        if self.end is not None:
            self.end.cancel()
        self.running = False
        self.interrupt()
        self.listener.forget()
        put_away(self.shown)
        self.carried, self.shown = [], []
        self._state("idle")

    def choose(self, pause: float = PAUSE, voice: str | None = None) -> None:
        """How long a silence ends a turn, and which voice answers."""
        self.listener.pause = pause
        self.voice = voice if voice in self.engine.capabilities.voices else None

    def hear(self, frame: bytes, place: int | None) -> None:
        """Take a frame of the microphone, 16-bit at RATE; ``place``: the sample of the reply that sounds, if any."""
        if not self.running:
            return
        samples, self.place = np.frombuffer(frame, "<i2").astype(np.float32) / 32768, place
        own = self.echo.hear(samples, None if place is None else round(place * RATE / self.rate))
        self._take(self.listener.hear(samples, over=place is not None, own=own))

    def press(self) -> None:
        """Push to talk: a turn begins."""
        if self.running:
            self._take(self.listener.hold())

    def release(self) -> None:
        """The turn ends here: push to talk, or the microphone was muted."""
        self._take(self.listener.finish())

    def see(self, picture: bytes) -> None:
        """Take a frame of the camera into the turn; JPEG, PNG or WebP."""
        speaks = self.listener.hearing and self.listener.silent <= SINCE
        if speaks and len(self.looking) < AT_ONCE and len(self.shown) < AT_MOST:
            task = self.loop.create_task(self._look(picture, self.turns))
            self.looking.add(task)
            task.add_done_callback(self.looking.discard)

    def interrupt(self) -> None:
        """End the reply, and its sound."""
        turn = self.turn
        if turn is None or turn.interrupted or not (turn.open or self.place is not None):
            return
        if turn.draft:
            self._withdraw(turn)
            return
        self.tell({"kind": "silence"})
        turn.interrupted, turn.heard = True, self.place or 0
        if turn.open:
            self.model.end(turn.name)
        elif self.here.conversation.messages:  # made, and not heard to its end
            self.here = replace(self.here, stopped=self.here.stopped | {len(self.here.conversation.messages) - 1})
            self.tell({"kind": "stopped", "turn": turn.number})

    def clear(self) -> None:
        """Forget what was said; the conversation begins anew."""
        if self.turn is not None and self.turn.open:
            self.interrupt()
            self.turn.task.add_done_callback(lambda _: self.clear())
            return
        visit.leave(self.here)
        self.here, self.turn = visit.enter(self.root), None
        self.tell({"kind": "cleared"})

    async def leave(self) -> None:
        """The visitor is gone: end everything and delete the files."""
        self.stop()
        if self.turn is not None and self.turn.task is not None:
            await asyncio.wait([self.turn.task])
        visit.leave(self.here)

    def _take(self, change: Change | None) -> None:
        match change:
            case Began():
                self.interrupt()
                self._state("hearing")
            case Dropped() if self.turn and self.turn.interrupted and not self.turn.said:
                self._answer_to(NOTHING_MORE)  # a noise, and no going on: what was said before it waits for its reply
            case Dropped():
                put_away(self.shown)
                self.shown = []
                self._state("listening")
            case Paused(ended) if self.engine.capabilities.eager and self.model.is_free:
                self._answer_to(ended, draft=True)
            case Resumed() if self.turn and self.turn.draft:
                self._withdraw(self.turn)
            case Ended() if self.turn and self.turn.draft and not self.turn.interrupted:
                self._stand_by(self.turn)
            case Ended():
                self._answer_to(change)

    def _answer_to(self, ended: Ended, draft: bool = False) -> None:
        self.turns += 1
        before, self.turn = self.turn, Turn(self.turns, ended, draft=True)
        if not draft:
            self._stand_by(self.turn)
        self.turn.task = self.loop.create_task(self._answer(self.turn, before))

    def _stand_by(self, turn: Turn) -> None:
        """The turn is over: its reply counts, and what was kept back of it is told."""
        turn.draft = False
        self._state("thinking", turn=turn.number, last=turn.ended.last)
        for message in turn.kept:
            self._told(turn, message)
        turn.decided.set()

    def _withdraw(self, turn: Turn) -> None:
        """The turn goes on: its draft ends, and nobody hears of it."""
        turn.interrupted = True
        self.model.end(turn.name)
        turn.decided.set()

    async def _look(self, picture: bytes, turns: int) -> None:
        """Decode a frame, and keep it unless its turn is being answered by then."""
        try:
            seen = await asyncio.to_thread(taken, picture, self.here.folder)
            if turns >= self.seen:
                self.shown.append(seen)
            else:
                put_away([seen])
        except Refused as refusal:
            self.tell({"kind": "problem", "sentence": str(refusal)})

    async def _answer(self, turn: Turn, before: Turn | None) -> None:
        """Everything from the end of a turn to the end of its reply."""
        try:
            await self._answered(turn, before)
        except Exception as error:
            self._told(turn, {"kind": "problem", "sentence": sentence_of(error)})
            await asyncio.to_thread(turn.decided.wait)
        if not self.listener.hearing and self.turn is turn:
            self._state("listening" if self.running else "idle")

    async def _answered(self, turn: Turn, before: Turn | None) -> None:
        if before is not None and before.task is not None:
            await asyncio.wait([before.task])
        if self.looking and not self.shown:  # one picture is worth the waiting, another is not
            await asyncio.wait(list(self.looking), return_when=asyncio.FIRST_COMPLETED)
        carried = self.carried
        samples = np.concatenate([*carried, turn.ended.samples])[-int(LONGEST * RATE) :]
        if turn.interrupted:  # somebody went on speaking: this was not the end
            self.carried = carried if turn.draft else [samples]  # of a draft they come again, when its turn ends
            return
        if not len(samples):  # a noise after something that was stopped
            return
        pictures = spread(self.shown, self.engine.capabilities.frames)
        put_away([one for one in self.shown if one not in pictures])
        self.carried, self.shown, self.seen = [], [], turn.number
        sound = media.write_audio(samples, RATE, self.here.folder)
        self.here = visit.ask(self.here, Message("user", (*pictures, sound)))
        turn.name = self.here.turn.name
        self.echo.begin()
        await asyncio.to_thread(self._reply, turn)
        if turn.unheard:
            sound.path.unlink(missing_ok=True)
            if self.running:
                self.carried = carried if turn.draft else [samples]
                self.shown = [*pictures, *self.shown]

    def _reply(self, turn: Turn) -> None:
        """Make the reply, in a thread; ends with the visit settled, whatever happens."""
        here, sentence, broken, figures, notices = self.here, "", "", [], []
        try:
            for here in self._made(turn):  # the last one counts
                figures = took(here.draft.usage) if here.draft.usage else []
                notices = here.draft.imprint.notices  # more may come as the files are made
                broken = here.draft.broken
            if turn.unheard:
                here = replace(visit.abandon(here), returned=None)
            elif here.draft.usage is None:
                here = visit.settle(replace(here, draft=cut(here.draft, turn.heard)))
            elif broken:
                here = visit.settle(here)
            elif here.draft.made or here.draft.speech:
                here = visit.conclude(here)
            else:
                raise OmniError(NOTHING_SAID)
            self._look_inside(turn, here)
        except Exception as error:
            sentence = sentence_of(error)
            here = replace(visit.abandon(here), returned=None)
        asked, self.here = self.here, here
        shown = asked if sentence else here
        figures, sentence = [*notices, *figures], sentence or broken
        self._post(turn, self._value(turn, shown, done=True, figures=figures, sentence=sentence))

    def _look_inside(self, turn: Turn, here: visit.Visit) -> None:
        """Tell what happened inside while a reply that stands was made."""
        if not turn.unheard and here.conversation.messages:
            turn.look.end(here.conversation.messages)
            self._post(turn, {"kind": "inside", "tokens": turn.look.tokens_value(), "turn": turn.look.turn_value()})

    def _made(self, turn: Turn) -> Iterator[visit.Visit]:
        """The visit as the reply grows; tells what is new."""
        here, shown, waits = self.here, 0.0, True
        wish = Wish(aloud="speech" in self.engine.capabilities.outputs, voice=self.voice, telemetry=True)
        asked, turn.look = here.turn.asked, Look(turn.name, here.turn.question, here.turn.at)
        imprint = Imprint(here.folder, self.keys, self.engine.name, asked)
        here = replace(here, draft=Draft(imprint))

        def reply() -> Iterator[Event]:
            return imprint.marked(self.engine.reply(asked, wish))

        try:
            with self.model.replying(turn.name, reply, SPEECH_PAUSE) as batches:
                for events in batches:
                    turn.look.take(events)
                    for event in events:
                        if isinstance(event, SpeechChunk):
                            self._post(turn, Speech(turn.number, event))
                        turn.said = turn.said or isinstance(event, (SpeechChunk, TextDelta))
                        here = replace(here, draft=here.draft.plus(event))
                    if waits:  # the first sign of life: the model is at it, or at somebody else's reply
                        self._post(turn, {"kind": "state", "state": "thinking" if events else "waiting"})
                        waits = not events
                    if events and time.monotonic() >= shown + SHOWN_PAUSE:
                        self._post(turn, self._value(turn, here))
                        shown = time.monotonic()
                    yield here
        finally:
            turn.decided.wait()
        yield here

    def _value(self, turn: Turn, here: visit.Visit, *, done: bool = False, **more: Any) -> dict[str, Any]:
        """A turn as the page shows it; ``more`` are its figures, and the sentence of a failure."""
        if here.turn is not None:
            asked, reply = here.asked.messages[-1], draft_value(here.draft)
        elif turn.unheard:
            return {"kind": "withdrawn", "turn": turn.number}
        else:
            asked, answer = here.conversation.messages[-2:]
            reply = message_value(answer, turn.interrupted or bool(more.get("sentence")))
        return {
            "kind": "turn",
            "turn": turn.number,
            "asked": message_value(asked),
            "reply": reply,
            "doing": here.draft.doing if here.turn else "",
            "done": done,
            **more,
        }

    def _post(self, turn: Turn, message: dict[str, Any] | Speech) -> None:
        """Tell from the thread of a reply."""
        self.loop.call_soon_threadsafe(self._told, turn, message)

    def _told(self, turn: Turn, message: dict[str, Any] | Speech) -> None:
        if turn.draft:
            turn.kept.append(message)
        elif not isinstance(message, Speech):
            self.tell(message)
        elif self.turn is turn and not turn.interrupted:
            self.rate = message.chunk.rate
            self.echo.play(message.chunk.samples, message.chunk.rate)
            self.tell(message)

    def _state(self, state: str, **more: Any) -> None:
        self.tell({"kind": "state", "state": state, **more})

    def _time_is_up(self) -> None:
        self.stop()
        self.tell({"kind": "over", "sentence": TIME_IS_UP})


def cut(draft: Draft, samples: int) -> Draft:
    """The draft with as much of its speech as was played."""
    kept = [
        replace(chunk, samples=chunk.samples[: max(0, samples - chunk.start)])
        for chunk in draft.speech
        if chunk.start < samples
    ]
    return replace(draft, speech=tuple(kept))
