"""A conversation as files that can be opened again: one description in JSON, and the media that it names.

A saved conversation comes back through the same door as any upload: whatever it claims, every file in it is sniffed,
bounded and decoded anew. Knows nothing of signatures or of the page.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omni.conversation import Audio, Conversation, Image, Message, Part, Text, Video
from omni.errors import Refused
from omni.media.document import MOST_NAME
from omni.media.intake import take_all, too_large, visible
from omni.media.limits import LIMITS, Limits

NAME = "conversation.json"
FORMAT, VERSION = "omni-playground", 1
MOST_JSON = 16 * 2**20  # bytes
MOST_LIST = 2**20  # bytes of a ZIP's list of its entries, all of which become objects when it is opened
WORDS = 100_000  # characters of one text: a reply may be longer than what a visitor types
KINDS: dict[type, tuple[str, str]] = {  # the key of a part's file, and of its words
    Image: ("image", "caption"),
    Audio: ("audio", "transcript"),
    Video: ("video", "caption"),
}

DAMAGED = "This conversation is damaged or was not saved here; please choose the ZIP as it was saved."


@dataclass(frozen=True)
class Opened:
    """A conversation that was saved: its messages, and the places of the replies that were cut short."""

    messages: tuple[Message, ...]
    stopped: frozenset[int]


def description(conversation: Conversation, stopped: frozenset[int] = frozenset()) -> str:
    """The thread as JSON; media are named by the names of their files."""
    messages = [
        {
            "role": message.role,
            "parts": [_described(part) for part in message.parts],
            "stopped": place in stopped,
            "liked": message.liked,
        }
        for place, message in enumerate(conversation.messages)
    ]
    return json.dumps({"format": FORMAT, "version": VERSION, "messages": messages}, ensure_ascii=False, indent=1)


def pack(files: Iterable[Path], bundle: Path) -> None:
    """Lay the files of a conversation into one that can be opened; that in JSON is its description."""
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_STORED) as packed:
        for file in files:
            packed.write(file, NAME if file.suffix == ".json" else file.name)


def open_bundle(file: Path, folder: Path, limits: Limits = LIMITS) -> Opened:
    """Read a saved conversation; its media become files in ``folder``.

    Raises Refused with one sentence where it is no such file, damaged, or beyond the limits; then ``folder`` is as
    before.
    """
    if file.stat().st_size > limits.saved_bytes:
        raise Refused(too_large(limits.saved_bytes))
    made: list[Path] = []
    try:
        _look_at_list(file)
        with zipfile.ZipFile(file) as bundle:
            told = _told(bundle, limits)
            parts = take_all(_files(told, bundle, limits), folder, limits)
            made += [part.path for part in parts]
            messages = tuple(_messages(told, iter(parts)))
    except Refused:
        _forget(made)
        raise
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, KeyError, TypeError,
            ValueError, AttributeError, RecursionError, struct.error, OSError) as error:  # fmt: skip
        _forget(made)
        raise Refused(DAMAGED) from error
    cut = {place for place, one in enumerate(told["messages"]) if one.get("stopped") and one["role"] == "assistant"}
    return Opened(messages, frozenset(cut))


def _described(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text} | _of_document(part)
    file, words = KINDS[type(part)]
    return {file: part.path.name, words: getattr(part, words)} | _of_document(part)


def _of_document(part: Part) -> dict[str, str]:
    """The name of the document that a part was read from, where it was."""
    document = getattr(part, "document", "")
    return {"document": document} if document else {}


def _look_at_list(file: Path) -> None:
    """Refuse a ZIP of hundreds of thousands of entries by its end record, which has to be the last thing in it."""
    with file.open("rb") as packed:
        packed.seek(-42, os.SEEK_END)  # room for what announces a list of another form (ZIP64), which we never write
        announced, signature, size, comment = struct.unpack("<4s16x4s8xI4xH", packed.read())
    if announced == b"PK\6\7" or signature != b"PK\5\6" or size > MOST_LIST or comment:
        raise Refused(DAMAGED)


def _told(bundle: zipfile.ZipFile, limits: Limits) -> dict[str, Any]:
    """The description in a bundle, its outer form looked at."""
    told = json.loads(_read(bundle, NAME, MOST_JSON))
    if told["format"] != FORMAT:
        raise Refused(DAMAGED)
    if told["version"] != VERSION:
        raise Refused("This conversation was saved by a newer playground; please open it there.")
    messages = told["messages"]
    if not isinstance(messages, list) or len(messages) % 2:
        raise Refused(DAMAGED)
    if len(messages) > limits.saved_messages:
        raise Refused(f"This conversation is too long; at most {limits.saved_messages // 2:,} turns can be opened.")
    for place, message in enumerate(messages):  # questions and replies take turns
        if message["role"] != ("assistant" if place % 2 else "user") or not isinstance(message["parts"], list):
            raise Refused(DAMAGED)
    files = sum(any(file in part for file, _ in KINDS.values()) for one in messages for part in one["parts"])
    if files > limits.saved_files:
        raise Refused(f"This conversation has {files:,} files; at most {limits.saved_files:,} can be opened at once.")
    return told


def _files(told: dict[str, Any], bundle: zipfile.ZipFile, limits: Limits) -> Iterator[bytes]:
    """The media of all messages, one after the other."""
    left = limits.saved_bytes
    for one in (part for message in told["messages"] for part in message["parts"] if "text" not in part):
        _, file, _ = _kind(one)
        data = _read(bundle, str(one[file]), min(left, limits.upload_bytes))
        left -= len(data)
        yield data


def _kind(one: dict[str, Any]) -> tuple[type, str, str]:
    """What a described part is, and the keys of its file and of its words."""
    return next((kind, *names) for kind, names in KINDS.items() if names[0] in one)


def _messages(told: dict[str, Any], media: Iterator[Image | Audio | Video]) -> Iterator[Message]:
    """The messages one by one, of their words and the ``media`` in their order."""
    for message in told["messages"]:
        parts: list[Part] = []
        for one in message["parts"]:
            if "text" in one:
                parts.append(Text(visible(str(one["text"]))[:WORDS], _named(one)))
                continue
            kind, _, words = _kind(one)
            part = next(media)
            if type(part) is not kind:
                raise Refused(DAMAGED)
            told_of = {words: visible(str(one.get(words, "")))[:WORDS]}
            parts.append(replace(part, **told_of, **({"document": _named(one)} if kind is Image else {})))
        liked = message.get("liked")
        yield Message(message["role"], tuple(parts), liked if isinstance(liked, bool) else None)


def _named(one: dict[str, Any]) -> str:
    """The name of the document that a part was read from, empty where it was none."""
    return visible(str(one.get("document", "")))[:MOST_NAME]


def _read(bundle: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The bytes of one entry. What its header says of its size is not believed."""
    with bundle.open(name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Refused("This conversation unpacks to more than can be read.")
    return data


def _forget(made: list[Path]) -> None:
    for path in made:
        path.unlink(missing_ok=True)
