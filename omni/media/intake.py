"""From an upload to a part: the only door, beside that for documents.

A file is sniffed here and decoded in the sandbox; what reaches the conversation's folder is a file that our own
encoder made, under a random name. Nothing of the upload's name, metadata or bytes is kept.
"""

from __future__ import annotations

import io
import logging
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from omni.conversation import Audio, Image, Text, Video
from omni.errors import Refused
from omni.media import sandbox
from omni.media.files import fresh
from omni.media.limits import LIMITS, Limits
from omni.media.sniff import Found, sniff

log = logging.getLogger(__name__)

SUFFIX = {"image": ".png", "audio": ".wav", "video": ".mp4"}

LONGEST_NAME = 60  # characters of a name, which may take four bytes each where 255 are allowed
NOT_ARRIVED = "The file did not arrive; please upload it again."

INVISIBLE = {"Cc", "Cf", "Cs"}  # control, format (among them direction marks), lone surrogates
JOINERS = {"\u200c", "\u200d"}  # Persian and Indic words and most emoji are written with them


def take(upload: Path, folder: Path, limits: Limits = LIMITS) -> Image | Audio | Video:
    """Accept an uploaded file into ``folder`` or refuse it.

    Pictures become PNG, sounds WAV (PCM16, mono), clips MP4 (H.264, AAC), each within ``limits``. A container
    without pictures is a sound, whatever its name. Raises Refused with one sentence; then ``folder`` is as before.
    """
    upload, folder = Path(upload), Path(folder)
    if not upload.is_file():
        raise Refused(NOT_ARRIVED)
    if upload.stat().st_size > limits.upload_bytes:
        raise Refused(too_large(limits.upload_bytes))
    with upload.open("rb") as file:
        return _decoded(file, [sniff(file)], [upload.stat().st_size], folder, limits)[0]


def take_all(contents: Iterable[bytes], folder: Path, limits: Limits = LIMITS) -> list[Image | Audio | Video]:
    """Accept files that came together, such as those of a saved conversation; one that is refused refuses all."""
    found, sizes = [], []
    with tempfile.TemporaryFile() as file:
        for content in contents:
            found.append(sniff(io.BytesIO(content)))
            sizes.append(file.write(content))
        return _decoded(file, found, sizes, Path(folder), limits) if sizes else []


def _decoded(
    file: BinaryIO, found: list[Found], sizes: list[int], folder: Path, limits: Limits
) -> list[Image | Audio | Video]:
    """What stands in ``file``, one upload of ``sizes`` bytes behind the other, as parts."""
    answers = sandbox.decode(file, found, sizes, limits)
    return [_kept(one.container, *answer, folder) for one, answer in zip(found, answers, strict=True)]


def _kept(container: str, facts: dict, payload: bytes, folder: Path) -> Image | Audio | Video:
    """What the sandbox made of an upload, as a file of ``folder``."""
    part = facts.pop("part")
    path = fresh(folder, SUFFIX[part])
    path.write_bytes(payload)
    log.info("took %s as %s: %s", container, part, facts)
    if part == "image":
        return Image(path, **facts)
    return Audio(path, **facts) if part == "audio" else Video(path, **facts)


def take_bytes(content: bytes, folder: Path, limits: Limits = LIMITS) -> Image | Audio | Video:
    """Accept a file that came some other way than as an upload; see ``take``."""
    with laid_down(content) as upload:
        return take(upload, folder, limits)


@contextmanager
def laid_down(content: bytes, name: str = "upload") -> Iterator[Path]:
    """The bytes as a file like an upload, for as long as the context lasts; of ``name`` what a file may be called."""
    plain = "".join(c if c.isprintable() and c not in "/\\:" else "_" for c in name).strip(" .")
    with tempfile.TemporaryDirectory(prefix="omni-") as folder:
        path = Path(folder, plain[-LONGEST_NAME:] or "upload")
        path.write_bytes(content)
        yield path


def take_text(text: str, limits: Limits = LIMITS) -> Text:
    """Accept written words without control, direction and zero-width marks; line breaks and tabs stay.

    Raises Refused where nothing is left or where there are more than ``limits.prompt_characters``.
    """
    if len(text) > 2 * limits.prompt_characters:  # before any work on a million characters
        raise Refused(too_long(limits))
    kept = visible(text).strip().strip("".join(JOINERS)).strip()
    if not kept:
        raise Refused("There is nothing to send yet; please write something or add a file.")
    if len(kept) > limits.prompt_characters:
        raise Refused(too_long(limits))
    return Text(kept)


def visible(text: str) -> str:
    """The text without control, direction and zero-width marks."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in "\n\t" or c in JOINERS or unicodedata.category(c) not in INVISIBLE)


def too_large(most: int) -> str:
    """The sentence for a file of more than ``most`` bytes."""
    return f"This file is too large; at most {most // 2**20} MB can be read."


def too_long(limits: Limits) -> str:
    """The sentence for a prompt over the limit."""
    return f"This text is too long; at most {limits.prompt_characters:,} characters can be read at once."
