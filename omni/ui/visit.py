"""One visitor's place on the page: the thread, and the reply that is being made.

Everything here is immutable and knows nothing of Gradio: each function returns the visit as it is afterwards.
While a reply is being made ``conversation`` stays as it was, so that a failure has nothing to repair.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from omni import media
from omni.conversation import Audio, Conversation, Message, Part, Text
from omni.engine import Modality
from omni.errors import Refused
from omni.ui.draft import Draft


@dataclass(frozen=True)
class Turn:
    """A question that is being answered."""

    base: Conversation  # the thread before the question
    question: Message
    typed: bool  # it came from the composer and goes back there if it fails
    name: str = field(default_factory=lambda: secrets.token_hex(8))  # tells the voices of two replies apart
    at: float = field(default_factory=time.monotonic)  # when it was asked
    outputs: frozenset[Modality] | None = None  # what the reply is to be made of, whatever the composer wishes for

    @property
    def asked(self) -> Conversation:
        """The thread with the question, as the engine gets it."""
        return self.base.plus(self.question)


@dataclass(frozen=True)
class Way:
    """One way that the thread went: all its messages, and the places of the replies that were cut short."""

    messages: tuple[Message, ...] = ()
    stopped: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Visit:
    """A visitor's session."""

    conversation: Conversation
    turn: Turn | None = None  # being answered
    draft: Draft = Draft()  # the reply to ``turn`` so far
    returned: Message | None = None  # a question that goes back to the composer
    stopped: frozenset[int] = frozenset()  # places of the replies that were cut short
    ways: tuple[Way, ...] = (Way(),)  # in the order in which they parted; the thread is one of them
    way: int = 0  # which

    @property
    def asked(self) -> Conversation:
        """The thread with the question that is being answered; its sounds carry what was understood of them."""
        return self.turn.base.plus(_understood(self.turn.question, self.draft.heard))

    @property
    def folder(self) -> Path:
        """Where the files of this visitor live."""
        return self.conversation.folder


def enter(root: Path) -> Visit:
    """A new visit with its own folder under ``root``, whose name cannot be guessed."""
    folder = root / secrets.token_urlsafe(24)
    folder.mkdir(parents=True)
    return Visit(Conversation(folder))


def reopen(root: Path, files: list[Path]) -> Visit:
    """A new visit that goes on with a saved conversation: one ZIP, or what would lie in it. Raises Refused."""
    here = enter(root)
    try:
        opened = _open(files, here.folder)
    except Refused:
        leave(here)
        raise
    thread = replace(here.conversation, messages=opened.messages)
    return _going_on(here, thread, opened.stopped)


def _open(files: list[Path], folder: Path) -> media.Opened:
    if [file.suffix for file in files] == [".zip"]:
        return media.open_bundle(files[0], folder)
    with tempfile.TemporaryDirectory() as place:
        bundle = Path(place) / "kept.zip"
        media.pack(files, bundle)
        return media.open_bundle(bundle, folder)


def leave(visit: Visit | None) -> None:
    """Forget a visitor: delete every file of the visit."""
    if visit is not None:
        shutil.rmtree(visit.folder, ignore_errors=True)


def ask(visit: Visit, question: Message) -> Visit:
    """Let a question be answered."""
    return replace(visit, turn=Turn(visit.conversation, question, typed=True), draft=Draft(), returned=None)


def ask_again(visit: Visit, outputs: frozenset[Modality] | None = None) -> Visit:
    """Answer the last question once more, maybe in ``outputs``; the old reply stands until the new one does."""
    messages = visit.conversation.messages
    if len(messages) < 2:
        return visit
    turn = Turn(visit.conversation.upto(len(messages) - 2), messages[-2], typed=False, outputs=outputs)
    return replace(visit, turn=turn, draft=Draft())


def ask_instead(visit: Visit, index: int, words: Text) -> Visit:
    """Put new words into the question at ``index`` and answer from there; what was attached stays."""
    messages = visit.conversation.messages
    if not 0 <= index < len(messages) or messages[index].role != "user":
        return visit
    turn = Turn(visit.conversation.upto(index), Message("user", (*messages[index].attached, words)), typed=False)
    return replace(visit, turn=turn, draft=Draft())


def rate(visit: Visit, place: int, liked: bool | None) -> Visit:
    """Remember what the visitor thinks of the reply at ``place``, in every way that the thread went from it."""
    messages = visit.conversation.messages
    if not 0 <= place < len(messages) or messages[place].role != "assistant":
        return visit
    upto = messages[: place + 1]
    rated = (*messages[:place], replace(messages[place], liked=liked))
    ways = tuple(
        replace(way, messages=(*rated, *way.messages[place + 1 :])) if way.messages[: place + 1] == upto else way
        for way in visit.ways
    )
    thread = replace(visit.conversation, messages=(*rated, *messages[place + 1 :]))
    return replace(visit, conversation=thread, ways=ways)


def undo(visit: Visit) -> Visit:
    """Take the last question and its reply back; the question returns to the composer."""
    messages = visit.conversation.messages
    if len(messages) < 2:
        return visit
    shorter = visit.conversation.upto(len(messages) - 2)
    return replace(_going_on(visit, shorter, _below(visit.stopped, shorter)), returned=messages[-2])


def versions(visit: Visit, place: int) -> list[Message]:
    """The messages that stand at ``place`` in the ways that agree with the thread before it, the oldest first."""
    before = visit.conversation.messages[:place]
    found = (way.messages[place] for way in visit.ways if way.messages[:place] == before and len(way.messages) > place)
    return list(dict.fromkeys(found))


def turn_to(visit: Visit, place: int, version: int) -> Visit:
    """Let the thread go on from ``place`` with another version of the message there, as it last went on from it."""
    known = versions(visit, place)
    if not 0 <= version < len(known):
        return visit
    start = (*visit.conversation.messages[:place], known[version])
    chosen = max(number for number, way in enumerate(visit.ways) if way.messages[: place + 1] == start)
    way = visit.ways[chosen]
    thread = replace(visit.conversation, messages=way.messages)
    return replace(visit, conversation=thread, stopped=way.stopped, way=chosen)


def settle(visit: Visit) -> Visit:
    """End a reply where it is: what was said stays, be it nothing, and is marked as stopped."""
    return visit if visit.turn is None else _answered(visit, visit.draft.parts(), stopped=True)


def conclude(visit: Visit) -> Visit:
    """The reply is complete: question and reply join the thread."""
    return _answered(visit, visit.draft.parts(), stopped=False)


def abandon(visit: Visit) -> Visit:
    """The reply failed: the thread is as it was, and what was typed returns to the composer."""
    typed = visit.turn is not None and visit.turn.typed
    return replace(visit, turn=None, draft=Draft(), returned=visit.turn.question if typed else visit.returned)


def _answered(visit: Visit, parts: tuple[Part, ...], *, stopped: bool) -> Visit:
    thread = visit.asked.plus(Message("assistant", parts))
    marks = _below(visit.stopped, visit.turn.base)
    if stopped:
        marks |= {len(thread.messages) - 1}
    return replace(_going_on(visit, thread, marks), turn=None, draft=Draft())


def _going_on(visit: Visit, thread: Conversation, stopped: frozenset[int]) -> Visit:
    """The visit with another thread: the same way, longer or shorter, or a new one where they part."""
    way, old, new = Way(thread.messages, stopped), visit.conversation.messages, thread.messages
    shared = min(len(old), len(new))
    if old[:shared] == new[:shared]:
        ways, place = (*visit.ways[: visit.way], way, *visit.ways[visit.way + 1 :]), visit.way
    else:
        ways, place = (*visit.ways, way), len(visit.ways)
    return replace(visit, conversation=thread, stopped=stopped, ways=ways, way=place)


def _understood(question: Message, heard: str) -> Message:
    def named(part: Part) -> Part:
        return replace(part, transcript=heard) if isinstance(part, Audio) and not part.transcript else part

    return replace(question, parts=tuple(map(named, question.parts)))


def _below(places: frozenset[int], thread: Conversation) -> frozenset[int]:
    return frozenset(place for place in places if place < len(thread.messages))
