"""What was said: immutable messages made of parts.

A media part is a validated file in the conversation's own folder. Only ``omni.media`` makes media parts,
so whoever holds one may decode it without further checks. Knows nothing of engines or of the page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class Text:
    """Written words: typed, said by the model, or read from a document."""

    text: str
    document: str = ""  # the name of the document that the words were read from


@dataclass(frozen=True)
class Image:
    """A picture file (PNG, JPEG or WebP), upright, without alpha."""

    path: Path
    width: int  # pixels
    height: int
    caption: str = ""
    credentials: str = ""  # who signed it, where an upload came with content credentials
    document: str = ""  # the name of the document of which it shows a page


@dataclass(frozen=True)
class Audio:
    """A sound file (WAV or FLAC). ``transcript`` holds the words where the one who made the sound knew them."""

    path: Path
    seconds: float
    rate: int  # samples a second
    transcript: str = ""
    credentials: str = ""  # who signed it, where an upload came with content credentials


@dataclass(frozen=True)
class Video:
    """A clip (MP4), with or without sound."""

    path: Path
    width: int
    height: int
    seconds: float
    fps: float
    has_sound: bool
    caption: str = ""
    credentials: str = ""  # who signed it, where an upload came with content credentials


Part = Text | Image | Audio | Video


@dataclass(frozen=True)
class Message:
    """One turn of one speaker."""

    role: Role
    parts: tuple[Part, ...]
    liked: bool | None = None  # what the visitor thinks of a reply; None where nothing was said

    @property
    def text(self) -> str:
        """The words that were typed or said, joined by line breaks; those of documents are none."""
        return "\n".join(part.text for part in self.parts if _is_words(part))

    @property
    def attached(self) -> tuple[Part, ...]:
        """All that came with the words: media, and documents with their pages."""
        return tuple(part for part in self.parts if not _is_words(part))


def things(parts: Iterable[Part]) -> list[tuple[Part, ...]]:
    """The parts as a person counts them: a document's words and the pages that follow them are one thing."""
    found: list[tuple[Part, ...]] = []
    for part in parts:
        page_of = part.document if isinstance(part, Image) else ""
        if page_of and found and isinstance(found[-1][0], Text) and found[-1][0].document == page_of:
            found[-1] = (*found[-1], part)
        else:
            found.append((part,))
    return found


def _is_words(part: Part) -> bool:
    return isinstance(part, Text) and not part.document


@dataclass(frozen=True)
class Conversation:
    """The thread so far and the folder that its files live in."""

    folder: Path
    messages: tuple[Message, ...] = ()

    def plus(self, message: Message) -> Conversation:
        """The same thread with one more message."""
        return replace(self, messages=(*self.messages, message))

    def upto(self, count: int) -> Conversation:
        """The first ``count`` messages of the thread."""
        return replace(self, messages=self.messages[:count])
