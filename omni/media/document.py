"""From a document to parts: its words, under its name, and where it has pages the first of them as pictures.

A PDF is read in the sandbox. Plain text is only decoded, which no bytes can abuse, so that is done here. Of the upload
nothing but the name and the words is kept.
"""

from __future__ import annotations

import codecs
import io
import logging
from dataclasses import dataclass
from pathlib import Path

from omni.conversation import Image, Text
from omni.errors import Refused
from omni.media import sandbox
from omni.media.files import fresh
from omni.media.intake import NOT_ARRIVED, visible
from omni.media.limits import LIMITS, Limits
from omni.media.sniff import HEAD, Found, by_magic, is_pdf

log = logging.getLogger(__name__)

# A text has no bytes that tell it apart, so here the name decides. None of these is parsed.
TEXTS = {
    ".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".log", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml",
    ".toml", ".ini", ".cfg", ".conf", ".xml", ".html", ".htm", ".css", ".svg", ".srt", ".vtt", ".py", ".ipynb",
    ".js", ".mjs", ".ts", ".jsx", ".tsx", ".vue", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".java", ".kt",
    ".swift", ".go", ".rs", ".rb", ".php", ".pl", ".lua", ".r", ".jl", ".m", ".scala", ".hs", ".ex", ".sh", ".bat",
    ".ps1", ".sql", ".proto", ".diff", ".patch",
}  # fmt: skip
SUFFIXES = (".pdf", *sorted(TEXTS))
MOST_NAME = 80  # characters of a name that are kept


@dataclass(frozen=True)
class Document:
    """What was taken: the words, then pictures of pages; ``notice`` says what was left out, if anything."""

    parts: tuple[Text | Image, ...]
    notice: str = ""


def is_document(upload: Path) -> bool:
    """Whether an upload is a PDF by its content, or a text by its name and no other kind by its content.

    Raises Refused for a kind that cannot be read anywhere.
    """
    if not upload.is_file():
        return False
    with upload.open("rb") as file:
        head = file.read(HEAD)
    return is_pdf(head) or (upload.suffix.lower() in TEXTS and by_magic(head) is None)


def take_document(upload: Path, folder: Path, limits: Limits = LIMITS) -> Document:
    """Accept an uploaded document into ``folder`` or refuse it.

    Words over ``limits.document_characters`` are cut, which the notice says. Raises Refused with one sentence; then
    ``folder`` is as before.
    """
    if not upload.is_file():
        raise Refused(NOT_ARRIVED)
    if upload.stat().st_size > limits.document_bytes:
        raise Refused(f"This document is too large; at most {limits.document_bytes // 2**20} MB can be read.")
    name = name_of(upload)
    with upload.open("rb") as file:
        if is_pdf(file.read(HEAD)):
            return _take_pdf(file, name, folder, limits)
        file.seek(0)
        words = decoded(file.read())
    text, cut = shortened(words, limits.document_characters)
    if not text:
        raise Refused("This document is empty; please choose another one.")
    log.info("took a text: %d characters", len(text))
    return Document((written(name, text, cut=cut),), cut_notice(name, text) if cut else "")


def _take_pdf(file: io.BufferedReader, name: str, folder: Path, limits: Limits) -> Document:
    facts, payload = sandbox.decode(file, [Found("document", "pdf")], [file.seek(0, 2)], limits)[0]
    stream, pages = io.BytesIO(payload), facts["pages"]
    text, cut = shortened(stream.read(facts["text"]).decode(), limits.document_characters)
    cut = cut or facts["cut"]
    if not text and not facts["pictures"]:
        raise Refused("No text was found in this PDF, and the model sees no pictures; please choose another one.")
    pictures = []
    for number, (width, height, size) in enumerate(facts["pictures"], 1):
        path = fresh(folder, ".png")
        path.write_bytes(stream.read(size))
        pictures.append(Image(path, width, height, f"{name}, page {number} of {pages}", document=name))
    log.info("took a PDF: %d pages, %d characters, %d pictures", pages, len(text), len(pictures))
    notice = cut_notice(name, text) if cut else ""
    if not text:
        notice = f"No text was found in {name}; its pages were taken as pictures, {len(pictures)} of {pages}."
    return Document((written(name, text, pages, cut), *pictures), notice)


def name_of(upload: Path) -> str:
    """The name of a file, on one line and not too long."""
    name = " ".join(visible(upload.name).split()) or "document"
    return name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 12]}…{name[-11:]}"


def decoded(data: bytes) -> str:
    """The words of a text in UTF-8, or in UTF-16 that says so. Raises Refused for any other bytes."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in data and not wide:
        raise Refused("This file holds bytes that are no text; please save it as plain text in UTF-8.")
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as cause:
        raise Refused("This text is in an encoding that is not known here; please save it in UTF-8.") from cause


def shortened(words: str, most: int) -> tuple[str, bool]:
    """The first ``most`` characters without those that cannot be seen, and whether any were left out."""
    text = visible(words[: 2 * most]).strip()  # a document of a million characters is not looked through
    return text[:most].rstrip(), len(text) > most or len(words) > 2 * most


def written(name: str, text: str, pages: int = 0, cut: bool = False) -> Text:
    """The words as the model reads them, below the name of the document and what it has to know of it."""
    known = [f"{pages} pages" if pages > 1 else "", "only the beginning" if cut and text else ""]
    facts = ", ".join(filter(None, known))
    head = f"{name} ({facts})" if facts else name
    return Text(f"{head}:\n\n{text}" if text else head, document=name)


def cut_notice(name: str, text: str) -> str:
    """What a visitor is told of a document that was cut."""
    return f"Only the beginning of {name} was taken, {len(text):,} characters."
