"""From a conversation to the messages of a request, files inline, within what a server takes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from PIL import Image as Pillow

from omni import media
from omni.conversation import Audio, Conversation, Image, Message, Part, Text, Video
from omni.engines.remote.dialects import OpenAI
from omni.errors import OmniError

KINDS = {Image: "picture", Audio: "sound", Video: "clip"}
MOST_BYTES = 96 * 2**20  # of all files in base64; older ones are left out first
EARLIER = 8  # files of earlier messages that are sent along again
END_OF_THOUGHT = "</think>"
JPEG = {"format": "JPEG", "quality": 90}


@dataclass(frozen=True)
class Written:
    """The messages, and the clips among their files."""

    messages: list[dict[str, Any]]
    clips: tuple[Video, ...]

    @property
    def sound_in_clips(self) -> bool:
        return bool(self.clips) and all(clip.has_sound for clip in self.clips)


def written(conversation: Conversation, dialect: OpenAI, own: bool) -> Written:
    """The conversation as a server takes it. Raises OmniError where the last message is more than it takes.

    A reply is told in words; our ``own`` server is also shown the pictures and clips that were in it.
    """
    kept = _kept(conversation.messages, dialect, own)
    messages = [_message(message, kept, dialect) for message in conversation.messages]
    return Written(messages, tuple(part for part, _ in kept.values() if isinstance(part, Video)))


def _kept(messages: tuple[Message, ...], dialect: OpenAI, own: bool) -> dict[int, tuple[Part, str]]:
    """The files that are sent, by identity, each with its base64: those of the last message, and the newest before."""
    kept: dict[int, tuple[Part, str]] = {}
    free = MOST_BYTES
    for place, message in reversed(list(enumerate(messages))):
        last, kinds = place == len(messages) - 1, set()
        for part in message.parts:
            if isinstance(part, Text) or not (message.role == "user" or (own and not isinstance(part, Audio))):
                continue
            kinds.add(type(part))
            if len(kinds) > dialect.kinds_a_message:
                if last:
                    raise OmniError(
                        "This server takes one kind of file a message; please send the others on their own."
                    )
                continue
            if not last and len(kept) >= EARLIER:
                continue
            data = base64.b64encode(_content(part, dialect)).decode()
            if len(data) > dialect.file_bytes or len(data) > free:
                if last:
                    raise OmniError("These files are too large for the model's server; please send smaller ones.")
                continue
            free -= len(data)
            kept[id(part)] = (part, data)
    return kept


def _content(part: Part, dialect: OpenAI) -> bytes:
    """The bytes of a file; a picture that is too large as PNG goes as JPEG."""
    content = part.path.read_bytes()
    if isinstance(part, Image) and len(content) * 4 // 3 > dialect.file_bytes:
        buffer = io.BytesIO()
        Pillow.fromarray(media.read_image(part)).save(buffer, **JPEG)
        return buffer.getvalue()
    return content


def _message(message: Message, kept: dict[int, tuple[Part, str]], dialect: OpenAI) -> dict[str, Any]:
    """One message, files first; words alone go as a string, which every server takes."""
    content: list[dict[str, Any]] = []
    files = [part for part in message.parts if not isinstance(part, Text)]
    for part in files:
        if id(part) in kept:
            content.append(_part(part, kept[id(part)][1], dialect, message.role == "assistant"))
        elif message.role == "user":
            content.append({"type": "text", "text": f"(an earlier {KINDS[type(part)]})"})
    words = _asked(message) if message.role == "user" else _said(message)
    if not content:
        return {"role": message.role, "content": words}
    if words:
        content.append({"type": "text", "text": words})
    return {"role": message.role, "content": content}


def _part(part: Part, data: str, dialect: OpenAI, replied: bool) -> dict[str, Any]:
    caption = {"caption": part.caption} if replied and not isinstance(part, Audio) and part.caption else {}
    match part:
        case Image():
            kind = "jpeg" if data.startswith("/9j/") else "png"
            return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}, **caption}
        case Video():
            return {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{data}"}, **caption}
        case _:
            return dialect.sound(data)


def _asked(message: Message) -> str:
    """What a question says, the words of its documents first."""
    return "\n\n".join(part.text for part in message.parts if isinstance(part, Text))


def _said(message: Message) -> str:
    """The words of a reply: written, else spoken, else under its picture, without its thoughts."""
    spoken = [part.transcript for part in message.parts if isinstance(part, Audio)]
    captions = [part.caption for part in message.parts if isinstance(part, (Image, Video))]
    words = next((words for words in (message.text, *spoken, *captions) if words), "")
    return words.rpartition(END_OF_THOUGHT)[2].strip()
