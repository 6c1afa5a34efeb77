"""What was said: immutable messages made of parts.

A media part is a validated file in the conversation's own folder. Only ``omni.media`` makes media parts,
so whoever holds one may decode it without further checks. Knows nothing of engines or of the page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class Text:
    """Written words."""

    text: str


@dataclass(frozen=True)
class Image:
    """A picture file (PNG, JPEG or WebP), upright, without alpha."""

    path: Path
    width: int  # pixels
    height: int
    caption: str = ""
    credentials: str = ""  # who signed it, where an upload came with content credentials


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

    @property
    def text(self) -> str:
        """The written words of the message, joined by line breaks."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))


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
