"""What a visitor or a program attaches, as parts that the engine takes; the same for the page and both of its APIs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omni import media
from omni.conversation import Audio, Image, Part, Text, Video
from omni.engine import Capabilities, Engine
from omni.errors import Refused
from omni.media import LIMITS, Limits
from omni.provenance.keys import Keys
from omni.provenance.uploads import discard, keep_credentials

KINDS = {Image: "image", Audio: "audio", Video: "video", Text: "document"}
PLURALS = {"image": "pictures", "audio": "sounds", "video": "clips"}


def attached(upload: Path, folder: Path, engine: Engine, keys: Keys) -> tuple[tuple[Part, ...], str]:
    """An upload as parts in ``folder``: one file of media, or a document's words and pages.

    Returns also a sentence on what was left out of it, empty where nothing was. Raises Refused where it cannot be read
    or the engine does not take its kind.
    """
    able = engine.capabilities
    if media.is_document(upload):
        document = media.take_document(upload, folder, bounds(able))
        return document.parts, document.notice
    part = media.take(upload, folder)
    kind = KINDS[type(part)]
    if kind not in able.inputs:
        discard(part)
        raise Refused(f"{engine.name} does not take {PLURALS[kind]}; please choose another kind.")
    return (keep_credentials(part, upload, keys),), ""


def bounds(able: Capabilities) -> Limits:
    """How much of a document an engine gets: half of what it reads at once, at a token for each character.

    An engine that reads little sees the first page alone, one that takes no pictures none.
    """
    characters = min(LIMITS.document_characters, able.context_tokens // 2)
    pictures = min(LIMITS.document_pictures, max(1, able.context_tokens // 2048)) if "image" in able.inputs else 0
    return replace(LIMITS, document_characters=characters, document_pictures=pictures)
