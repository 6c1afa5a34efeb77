"""What happens when a visitor does something: one method for each thing that can be done on the chat tab.

Each takes the visit and gives the whole screen back, always in the order of ``Screen``. Decodes nothing, knows no
engine beyond its protocol.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from omni import media
from omni.attaching import attached
from omni.conversation import Message, Part, things
from omni.engine import Engine
from omni.errors import OmniError, Refused
from omni.provenance.export import export
from omni.provenance.imprint import Imprint
from omni.provenance.keys import Keys
from omni.provenance.uploads import discard
from omni.ui import status, visit
from omni.ui.composer import tray_value, wish_of
from omni.ui.draft import Draft
from omni.ui.look import NO_TURN, NOTHING, Look
from omni.ui.pacing import OneAtATime
from omni.ui.past import name_of, past_value
from omni.ui.player import SILENT, Voice
from omni.ui.suggestions import Suggestion
from omni.ui.thread import growing_value, thread_value
from omni.ui.visit import Visit

log = logging.getLogger(__name__)

MOST_ATTACHED = 8
AS_IT_IS = gr.skip()

Laid = tuple[Part, ...]  # what lies in the composer, not sent yet


class Screen(NamedTuple):
    """The outputs of every action, in the order in which they are wired."""

    visit: Any = AS_IT_IS
    laid: Any = AS_IT_IS
    thread: Any = AS_IT_IS
    player: Any = AS_IT_IS
    tray: Any = AS_IT_IS
    words: Any = AS_IT_IS
    status: Any = AS_IT_IS
    asked: Any = AS_IT_IS  # the name of a new turn; its change starts the reply
    saved: Any = AS_IT_IS  # a file that the browser is to keep
    tokens: Any = AS_IT_IS  # the inside of the last reply, see look.py
    turn: Any = AS_IT_IS
    draft: Any = AS_IT_IS  # the reply under way
    past: Any = AS_IT_IS  # the thread as the browser keeps it, see past.py


def when_idle(action: Callable[..., Screen]) -> Callable[..., Screen]:
    """An action that does nothing while a reply is being made: then only the reply may write the visit."""

    @wraps(action)
    def guarded(self: Actions, here: Visit | None, *rest: Any) -> Screen:
        return Screen() if self.answering(here) else action(self, here, *rest)

    return guarded


@dataclass(frozen=True)
class Actions:
    """The actions of the chat tab on one engine; conversations live under ``root``."""

    engine: Engine
    root: Path
    keys: Keys
    suggestions: tuple[Suggestion, ...]
    model: OneAtATime = field(default_factory=OneAtATime)

    def answering(self, here: Visit | None) -> bool:
        """Whether a reply to this visitor is being made."""
        return here is not None and here.turn is not None and self.model.is_running(here.turn.name)

    def attach(self, here: Visit | None, laid: Laid, uploads: list[str]) -> Screen:
        """Take uploaded files into the composer; what is refused, or cut, is said."""
        entered, refused, notices = here or visit.enter(self.root), "", []
        for upload in map(Path, uploads):
            try:
                parts, notice = self._accept(upload, entered.folder, len(things(laid)))
                laid, notices = (*laid, *parts), [*notices, *filter(None, [notice])]
            except Refused as refusal:
                refused = str(refusal)
            finally:
                upload.unlink(missing_ok=True)
        line = status.failed(refused) if refused else status.noted(notices) if notices else AS_IT_IS
        return Screen(AS_IT_IS if here else entered, laid, tray=tray_value(laid), status=line)

    def detach(self, laid: Laid, event: gr.EventData) -> Screen:
        """Remove one thing from the composer, and its files."""
        kept = things(laid)
        for part in kept.pop(int(event.index)):
            discard(part)
        laid = tuple(part for thing in kept for part in thing)
        return Screen(laid=laid, tray=tray_value(laid))

    @when_idle
    def send(self, here: Visit | None, laid: Laid, words: str) -> Screen:
        """Ask what is in the composer, media first. While a reply is being made, the page stops it before it sends."""
        here = visit.settle(here or visit.enter(self.root))
        if not words.strip() and not laid:
            return Screen(here)
        try:
            texts = (media.take_text(words),) if words.strip() else ()
        except Refused as refusal:
            return Screen(here, status=status.failed(str(refusal)))
        return _asking(visit.ask(here, Message("user", (*laid, *texts))), laid=(), tray=[], words="")

    @when_idle
    def suggest(self, here: Visit | None, event: gr.EventData) -> Screen:
        """Ask one of the suggestions."""
        here, chosen = visit.settle(here or visit.enter(self.root)), self.suggestions[int(event.index)]
        parts = [media.take(path, here.folder) for path in chosen.paths]
        texts = [media.take_text(chosen.text)] if chosen.text else []
        return _asking(visit.ask(here, Message("user", (*parts, *texts))))

    @when_idle
    def again(self, here: Visit, event: gr.EventData) -> Screen:
        """Answer the last question once more, as the composer wishes or in the one output that is asked for."""
        outputs = self.engine.capabilities.outputs & {event.output}
        return _asking(visit.ask_again(here, outputs or None))

    @when_idle
    def instead(self, here: Visit, event: gr.EventData) -> Screen:
        """Change an earlier question and answer from there."""
        try:
            words = media.take_text(str(event.text))
        except Refused as refusal:
            return Screen(here, status=status.failed(str(refusal)))
        return _asking(visit.ask_instead(here, int(event.index), words))

    @when_idle
    def turn_to(self, here: Visit, event: gr.EventData) -> Screen:
        """Go over to another version of a message, and to what came after it."""
        here = visit.turn_to(here, int(event.index), int(event.version))
        return Screen(**_standing(here), player=SILENT, status=status.quiet())

    @when_idle
    def rate(self, here: Visit, event: gr.EventData) -> Screen:
        """Remember whether a reply is liked; null takes it back."""
        liked = None if event.liked is None else bool(event.liked)
        return Screen(**_standing(visit.rate(here, int(event.index), liked)))

    @when_idle
    def take_back(self, here: Visit, laid: Laid, words: str) -> Screen:
        """Undo the last question and its reply; the question returns to the composer."""
        return _returning(visit.undo(here), laid, words, status.quiet())

    @when_idle
    def clear(self, here: Visit | None) -> Screen:
        """Forget everything and begin anew."""
        visit.leave(here)
        return _begun(visit.enter(self.root))

    def save(self, here: Visit | None) -> Screen:
        """Hand the conversation over as one file."""
        if here is None or not here.conversation.messages:
            return Screen(status=status.failed("There is nothing to save yet."))
        path, notice = export(here.conversation, self.engine.name, self.keys, here.stopped)
        return Screen(saved={"file": str(path)}, status=status.failed(notice) if notice else AS_IT_IS)

    def open(self, here: Visit | None, upload: str) -> Iterator[Screen]:
        """Go on with a conversation that was saved; the one on the page is forgotten."""
        yield from self._opened(here, [Path(upload)])

    def reopen(self, here: Visit | None, uploads: list[str]) -> Iterator[Screen]:
        """Go on with a chat that the browser kept, from its description and its media."""
        yield from self._opened(here, [Path(upload) for upload in uploads])

    def stop(self, here: Visit | None) -> Screen:
        """End the reply where it is. One that has begun finishes by itself in ``answer``; one in the queue, here."""
        if here is None or here.turn is None:
            return Screen()
        self.model.end(here.turn.name)
        if self.answering(here):
            return Screen()
        return Screen(**_standing(visit.settle(here)), status=status.stopped())

    def answer(self, here: Visit | None, tells: bool, *wishes: Any) -> Iterator[Screen]:
        """Let the engine reply to the question of the visit, and show it as it comes.

        ``tells`` puts the words of the question into the credentials of what is made.

        While this runs, nothing else writes the visit: a stop only makes the batches end.
        """
        if here is None or here.turn is None or self.answering(here):
            return
        began, turn, voice = time.monotonic(), here.turn, Voice(here.turn.name)
        wish, look = replace(wish_of(*wishes), telemetry=True), Look(turn.name, turn.question, turn.at)
        wish = wish if turn.outputs is None else replace(wish, outputs=turn.outputs)
        imprint = Imprint(here.folder, self.keys, self.engine.name, turn.asked, tells)
        here = replace(here, draft=Draft(imprint))
        with self.model.replying(turn.name, lambda: imprint.marked(self.engine.reply(turn.asked, wish))) as batches:
            try:
                for events in batches:
                    look.take(events)
                    for event in events:
                        here = replace(here, draft=here.draft.plus(event))
                    screen = Screen(status=status.busy(here.draft, time.monotonic() - began))
                    if events:  # else a sign of life: only the seconds move
                        shown = {"draft": growing_value(here), "player": voice.value(here.draft.speech)}
                        screen = screen._replace(visit=here, **shown)
                    yield _looked_into(screen, look)
                screen = _ended(here, voice)
                look.end(screen.visit.conversation.messages)
                yield _looked_into(screen, look)
            except Exception as error:
                here = visit.abandon(here)
                look.fail()
                yield _looked_into(_stopped_at(here, status.failed(sentence_of(error))), look)
                raise gr.Error(visible=False, print_exception=False) from error  # lets ``recover`` run

    @when_idle
    def recover(self, here: Visit | None, laid: Laid, words: str) -> Screen:
        """After a reply that failed, or that the queue refused: what was typed returns to the composer."""
        if here is None:
            return Screen()
        line = AS_IT_IS if here.turn is None else status.failed("Too many people are waiting; please try again soon.")
        return _returning(visit.abandon(here), laid, words, line)

    def _opened(self, here: Visit | None, uploads: list[Path]) -> Iterator[Screen]:
        """Go on with the conversation in a ZIP, or in the files of one."""
        try:
            if self.answering(here):
                yield Screen()
                return
            yield Screen(status=status.opening())
            opened = visit.reopen(self.root, uploads)
        except Refused as refusal:
            yield Screen(status=status.failed(str(refusal)))
            return
        finally:
            for upload in uploads:
                upload.unlink(missing_ok=True)
        visit.leave(here)
        yield _begun(opened)._replace(past=past_value(opened, name_of(uploads)))

    def _accept(self, upload: Path, folder: Path, count: int) -> tuple[tuple[Part, ...], str]:
        """The upload as parts and a notice, if there is room for it; see ``attached``. Raises Refused."""
        if count >= MOST_ATTACHED:
            raise Refused(f"A message can carry {MOST_ATTACHED} things; please send these first.")
        return attached(upload, folder, self.engine, self.keys)


def sentence_of(error: Exception) -> str:
    """What a visitor is told of a failure; the log gets the rest."""
    if isinstance(error, OmniError):
        log.warning("the reply failed: %s", error, exc_info=error.__cause__)
        return str(error)
    if isinstance(error, gr.Error):  # a GPU lease that was refused says so itself
        return str(error.message)
    log.error("the reply failed", exc_info=error)
    return status.OUR_FAULT


def _begun(here: Visit) -> Screen:
    """Another thread than the one on the page."""
    composer = {"laid": (), "tray": [], "words": ""}
    return Screen(**_standing(here), **composer, player=SILENT, status=status.quiet(), tokens=NOTHING, turn=NO_TURN)


def _standing(here: Visit) -> dict[str, Any]:
    """A thread that nothing is added to, as the page shows it and as the browser keeps it."""
    return {"visit": here, "thread": thread_value(here), "past": past_value(here)}


def _asking(here: Visit, **composer: Any) -> Screen:
    """A question that begins to be answered."""
    if here.turn is None:
        return Screen(here)
    return Screen(
        here, thread=thread_value(here), player=SILENT, status=status.waiting(), asked=here.turn.name
    )._replace(**composer)


def _returning(here: Visit, laid: Laid, words: str, line: Any) -> Screen:
    """A question that goes back to the composer, in front of what is there by now."""
    if here.returned is not None:
        laid = (*here.returned.attached, *laid)
        words = "\n".join(filter(None, (here.returned.text, words)))
    shown = _standing(replace(here, returned=None))
    return Screen(**shown, laid=laid, player=SILENT, tray=tray_value(laid), words=words, status=line)


def _ended(here: Visit, voice: Voice) -> Screen:
    """The last update of a reply: complete, or stopped where it is. Raises OmniError where it is complete and empty."""
    draft = here.draft
    if draft.usage is None or draft.broken:
        return _stopped_at(visit.settle(here), status.failed(draft.broken) if draft.broken else status.stopped())
    if not draft.made and not draft.speech:
        raise OmniError("The model had nothing to say to this; please try again or ask it differently.")
    here = visit.conclude(here)
    player = voice.value(draft.speech, complete=True)
    return Screen(**_standing(here), player=player, status=status.finished(draft))


def _looked_into(screen: Screen, look: Look) -> Screen:
    """The inside is in every update: a tab that was never opened takes what is left out of one for its value."""
    return screen._replace(tokens=look.tokens_value(), turn=look.turn_value())


def _stopped_at(here: Visit, line: status.Status) -> Screen:
    return Screen(**_standing(here), player=SILENT, status=line)
