"""What a file is by its first bytes, never by its name.

Answers with an explicit container format: a demuxer that is left to guess also accepts playlists, which open other
files. Text formats (playlists, SVG, HTML) have no entry here, so nothing ever parses them; see ``document``.
Does not know whether the rest of the file is sound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO, Literal

from omni.errors import Refused

HEAD = 4_096  # bytes looked at from the start
TAIL = 66_000  # from the end; a ZIP directory may be followed by a comment of 65,535 bytes

ACCEPTED = "a picture (PNG, JPEG, WebP), sound (WAV, FLAC, MP3, OGG, M4A, WebM), clip (MP4, MOV, WebM), PDF or text"

STILL_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis"}

# Long enough that compressed data does not hold one of them by chance.
SECOND_KIND = re.compile(
    rb"PK\x05\x06\0\0\0\0|%PDF-1\.|<script|<html|<!doctype|<svg[ >][^\0]{0,200}xmlns|#EXTM3U|ffconcat version",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Found:
    """What a file holds: a picture, a sound, a document, or a container that has to be opened to know (``stream``)."""

    kind: Literal["picture", "sound", "stream", "document"]
    container: str  # Pillow's format name for a picture, "pdf" for a document, the demuxer's name otherwise


def sniff(file: BinaryIO) -> Found:
    """Name the kind and container of a seekable binary file of media.

    Raises Refused where it is empty, no accepted kind, or a second kind of file at the same time.
    """
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        raise Refused("This file is empty; please choose another one.")
    if is_pdf(head):
        raise Refused("This is a document where only media can stand; please choose a picture, a sound or a clip.")
    found = by_magic(head)
    if found is None:
        raise Refused(f"This file is none of the kinds that can be read here; please choose {ACCEPTED}.")
    file.seek(0, 2)
    file.seek(max(HEAD, file.tell() - TAIL))
    if SECOND_KIND.search(head) or SECOND_KIND.search(file.read(TAIL)):
        raise Refused("This file is two kinds of file in one; please save it again as a plain picture, sound or clip.")
    file.seek(0)
    return found


def by_magic(head: bytes) -> Found | None:
    """The kind that the first bytes tell, None where they tell none."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Found("picture", "PNG")
    if head.startswith(b"\xff\xd8\xff"):
        return Found("picture", "JPEG")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Found("picture", "WEBP")
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return Found("sound", "wav")
    if head.startswith(b"fLaC"):
        return Found("sound", "flac")
    if head.startswith(b"OggS"):
        return Found("sound", "ogg")
    if head.startswith(b"\x1aE\xdf\xa3"):
        return Found("stream", "matroska")
    if head[4:8] == b"ftyp":
        if head[8:12] in STILL_BRANDS:
            raise Refused("HEIC and AVIF pictures cannot be read here; please save this one as JPEG or PNG.")
        return Found("stream", "mov")
    if head[4:8] in (b"moov", b"wide", b"mdat") and head[0] == 0:  # QuickTime before it had ftyp
        return Found("stream", "mov")
    if head.startswith(b"ID3") or starts_mp3_frame(head):
        return Found("sound", "mp3")
    return None


def is_pdf(head: bytes) -> bool:
    """Whether a PDF begins here; some programs write a mark or an empty line in front of it."""
    return head.lstrip(b"\xef\xbb\xbf\r\n\t ").startswith(b"%PDF-")


def starts_mp3_frame(head: bytes) -> bool:
    """Whether the four bytes of an MPEG layer III frame header stand first, each field with a legal value."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == 1 and bitrate not in (0, 15) and rate != 3
