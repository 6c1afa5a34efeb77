"""PDF: an upload to its words and to pictures of its first pages. Runs in the sandbox.

Reads what is written in the file; it recognises no letters in pictures, so of a scan there are only the pictures.
Fonts that the file does not carry are replaced by pdfium's own, as no other file can be opened.
"""

from __future__ import annotations

import encodings.utf_16_le  # noqa: F401  pdfium's strings need it, when no file can be opened
import re
from typing import BinaryIO

import pypdfium2
from PIL import Image as Pillow
from pypdfium2.raw import FPDF_ERR_PASSWORD

from omni.errors import Refused
from omni.media.image import png
from omni.media.limits import Limits

HYPHEN = re.compile("[\x02\ufffe]\r?\n?")  # how pdfium writes a hyphen that only breaks the line


def read_pdf(upload: BinaryIO, limits: Limits) -> tuple[dict, bytes]:
    """Take the words of a PDF, and its first pages as pictures, within ``limits``.

    Returns facts: ``text`` (bytes of the words), ``pages`` (in the file), ``cut`` (whether words were left out),
    ``pictures`` (width, height and bytes of each); and the words in UTF-8, followed by the pictures as PNG. Raises
    Refused where it is locked or empty; pdfium's error where it is damaged.
    """
    upload.seek(0)
    try:
        document = pypdfium2.PdfDocument(upload.read())
    except pypdfium2.PdfiumError as error:
        if error.err_code == FPDF_ERR_PASSWORD:
            raise Refused("This PDF is locked with a password; please save it without one and try again.") from error
        raise
    if not len(document):
        raise Refused("This PDF has no pages; please choose another one.")
    words, cut = words_of(document, limits)
    shown = range(min(len(document), limits.document_pictures))
    pictures = [picture_of(document[number], limits.picture_side) for number in shown]
    files = [png(picture, compress_level=4) for picture in pictures]
    text = words.encode(errors="ignore")
    facts = {
        "part": "document",
        "text": len(text),
        "pages": len(document),
        "cut": cut,
        "pictures": [(*one.size, len(file)) for one, file in zip(pictures, files, strict=True)],
    }
    return facts, b"".join((text, *files))


def words_of(document: pypdfium2.PdfDocument, limits: Limits) -> tuple[str, bool]:
    """The words page by page, and whether there are more than are taken."""
    pages: list[str] = []
    for number in range(len(document)):
        if number >= limits.document_pages or sum(map(len, pages)) > limits.document_characters:
            return "\n\n".join(pages), True
        page = document[number]
        pages.append(HYPHEN.sub("", page.get_textpage().get_text_bounded()).strip())
        page.close()
    return "\n\n".join(filter(None, pages)), False


def picture_of(page: pypdfium2.PdfPage, side: int) -> Pillow.Image:
    """The page as RGB, its longest side ``side`` pixels."""
    return page.render(scale=side / max(*page.get_size(), 1)).to_pil().convert("RGB")
