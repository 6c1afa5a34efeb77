"""Chats that the browser keeps: what it is told of the one on the page, and how one of them comes back.

The server keeps nothing of them. A chat comes back as its description and its media, through the door of every upload.
"""

from __future__ import annotations

import json
from pathlib import Path

from omni import media
from omni.conversation import Text
from omni.ui.visit import Visit

NONE = json.dumps(None)


def past_value(here: Visit, of: str = "") -> str:
    """The thread as ``assets/past.js`` keeps it, as JSON; ``of``: which of the browser's chats it goes on with."""
    thread = here.conversation
    if not thread.messages:
        return NONE
    parts = (part for message in thread.messages for part in message.parts if not isinstance(part, Text))
    files = {part.path.name: str(part.path) for part in parts}
    kept = {"name": here.folder.name, "of": of, "told": media.description(thread, here.stopped), "files": files}
    return json.dumps(kept, ensure_ascii=False)


def name_of(uploads: list[Path]) -> str:
    """How the browser calls the chat whose files these are: the name of its description."""
    return next((upload.stem for upload in uploads if upload.suffix == ".json"), "")
