"""From the messages of a request to a conversation. Files come inside the request; no address is ever fetched."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from pathlib import Path

from omni import media
from omni.attaching import attached
from omni.conversation import Audio, Conversation, Image, Message, Part, Video
from omni.engine import Capabilities, Engine
from omni.errors import Refused
from omni.provenance.keys import Keys
from omni.provenance.uploads import keep_credentials
from omni.serving.protocol import ChatMessage, ContentPart

MOST_FILES = 8  # in a message, as on the page
MOST_IN_ALL = 32
TEXTS = replace(media.LIMITS, prompt_characters=100_000)  # a program writes its documents into the text
KINDS = {Image: "image", Audio: "audio", Video: "video"}


def conversation_of(messages: list[ChatMessage], engine: Engine, folder: Path, keys: Keys) -> Conversation:
    """The thread of a request, its files decoded into ``folder``, with a word on who signed them.

    Raises Refused with a sentence; takes a while.
    """
    if messages[-1].role != "user":
        raise Refused("The last message has to be the user's; please end with a question.")
    files = [part for message in messages if isinstance(message.content, list) for part in message.content]
    if sum(part.type != "text" for part in files) > MOST_IN_ALL:
        raise Refused(f"A conversation can carry {MOST_IN_ALL} files; please send fewer.")
    return Conversation(folder, tuple(message_of(message, engine, folder, keys) for message in messages))


def message_of(message: ChatMessage, engine: Engine, folder: Path, keys: Keys) -> Message:
    """One turn. Raises Refused for a role or a file that is not taken, or for a user who says nothing."""
    if message.role not in ("user", "assistant"):
        raise Refused(
            f"No {message.role} message is taken here; only the one who runs this server instructs the model."
        )
    content = message.content if message.content is not None else []
    pieces = [ContentPart(type="text", text=content)] if isinstance(content, str) else content
    if sum(piece.type != "text" for piece in pieces) > MOST_FILES:
        raise Refused(f"A message can carry {MOST_FILES} files; please send fewer.")
    if message.role == "assistant":  # an empty reply is one
        pieces = [piece for piece in pieces if piece.type != "text" or (piece.text or "").strip()]
    elif not pieces:
        raise Refused("The message is empty; please write something or add a file.")
    parts = (part for piece in pieces for part in parts_of(piece, engine, folder, keys))
    return Message(message.role, tuple(parts))


def parts_of(piece: ContentPart, engine: Engine, folder: Path, keys: Keys) -> tuple[Part, ...]:
    """A piece of a message as the model gets it: one part, or a document's words and pages. Raises Refused."""
    if piece.type != "file" or piece.file is None:
        return (part_of(piece, engine.capabilities, folder, keys),)
    if piece.file.file_data is None:
        raise Refused("No file is kept here under a name; please send the file itself, as file_data.")
    with media.laid_down(inline(piece.file.file_data), piece.file.filename) as upload:
        return attached(upload, folder, engine, keys)[0]


def part_of(piece: ContentPart, able: Capabilities, folder: Path, keys: Keys) -> Part:
    """Words or a file as a part. Raises Refused."""
    match piece.type:
        case "text":
            return media.take_text(piece.text or "", TEXTS)
        case "image_url" | "video_url" | "audio_url" if (address := getattr(piece, piece.type)) is not None:
            part = taken(inline(address.url), folder, keys)
        case "input_audio" if piece.input_audio is not None:
            part = taken(inline(piece.input_audio.data), folder, keys)
        case _:
            raise Refused(f"A part of the kind {piece.type!r} without its file, or not known here; please check it.")
    if KINDS[type(part)] not in able.inputs:
        raise Refused(f"This model takes no {KINDS[type(part)]}; please send another kind.")
    if piece.caption and isinstance(part, (Image, Video)):
        return replace(part, caption=media.take_text(piece.caption).text)
    return part


def taken(content: bytes, folder: Path, keys: Keys) -> Image | Audio | Video:
    """A file as a part, with what was signed in it. Raises Refused."""
    with media.laid_down(content) as upload:
        return keep_credentials(media.take(upload, folder), upload, keys)


def inline(data: str) -> bytes:
    """The bytes of a ``data:`` address, or of bare base64. Raises Refused for any other address."""
    head, comma, body = data.partition(",") if data.startswith("data:") else ("", ",", data)
    if not comma or (head and not head.endswith(";base64")) or "://" in body[:16]:
        raise Refused("No address is fetched here; please send the file itself, as a data: address in base64.")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("A file in the request is no valid base64; please encode it again.") from None


def asked(words: str, folder: Path, *files: Part) -> Conversation:
    """A conversation of one question."""
    return Conversation(folder, (Message("user", (*files, media.take_text(words))),))
