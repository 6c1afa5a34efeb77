"""The credentials that a visitor's own file brings: kept beside its part, and carried on into what is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omni.conversation import Part, Text
from omni.provenance.credentials import KEPT, Credentials, carries, read
from omni.provenance.imprint import Made
from omni.provenance.keys import Keys

MOST_KEPT = 4 * 2**20  # bytes of somebody's credentials, which every file that is made of theirs carries again


def keep_credentials(part: Made, upload: Path, keys: Keys) -> Made:
    """The part with a word on who signed ``upload``, of which it was made; an archive of it is laid beside the part."""
    with upload.open("rb") as file:
        if not carries(file):
            return part
        found, archive = read(file, keys, keep=True)
    words = summary(found)
    if len(archive) > MOST_KEPT:
        words += ", too large to be carried on"
    elif archive:
        part.path.with_suffix(KEPT).write_bytes(archive)
    return replace(part, credentials=words)


def discard(part: Part) -> None:
    """Delete the file of a part, where it has one, and the credentials beside it."""
    if isinstance(part, Text):
        return
    part.path.unlink(missing_ok=True)
    part.path.with_suffix(KEPT).unlink(missing_ok=True)


def summary(found: Credentials) -> str:
    """Who signed, in a few words; nothing where nobody did."""
    match found.state:
        case "none" | "unsupported":
            return ""
        case "unreadable":
            return "credentials that cannot be read"
        case "invalid":
            return f"signed by {found.signer or 'someone unnamed'}, changed since"
    return f"signed by {found.signer or 'someone unnamed'}"
