"""A conversation to take along: one signed ZIP of a page that any browser opens, the files of the thread, and what the
playground needs to open it again."""

from __future__ import annotations

import html
import logging
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from omni.conversation import Audio, Conversation, Image, Message, Part, Text
from omni.media import bundle
from omni.media.files import fresh
from omni.provenance.credentials import CannotSign, Claim, sign
from omni.provenance.keys import Keys

log = logging.getLogger(__name__)

PAGE = "conversation.html"
LABEL = "Made by AI"
RATED = {True: "Good reply", False: "Bad reply"}  # as the buttons of the thread are called
HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A conversation with {engine}</title>
<style>
body {{ max-width: 44rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }}
section {{ margin: 1.5rem 0; }} img, video {{ max-width: 100%; }} p {{ white-space: pre-wrap; }}
small {{ color: #666; }}
</style>
<h1>A conversation with {engine}</h1>
"""


def export(
    conversation: Conversation, engine: str, keys: Keys, stopped: frozenset[int] = frozenset()
) -> tuple[Path, str]:
    """Write the conversation into its own folder as a signed ZIP; ``stopped`` are the replies that were cut short.

    Returns its path and a sentence, which is empty unless it could not be signed.
    """
    path = fresh(conversation.folder, ".zip")
    # Stored as it is: c2pa reads no other, and media are compressed already.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr(PAGE, page_of(conversation, engine))
        file.writestr(bundle.NAME, bundle.description(conversation, stopped))
        for part in (part for message in conversation.messages for part in message.parts):
            if not isinstance(part, Text):
                file.write(part.path, part.path.name)
    try:
        return path, sign(path, Claim(engine, datetime.now(UTC), marked=False), keys)
    except CannotSign as reason:
        log.warning("%s is not signed: %s", path.name, reason, exc_info=reason.__cause__)
        return path, str(reason)


def page_of(conversation: Conversation, engine: str) -> str:
    """The thread as HTML; every reply says that a model made it, and what the visitor thought of it."""
    turns = "\n".join(_turn(message, engine) for message in conversation.messages)
    return HEAD.format(engine=html.escape(engine)) + turns + "\n</html>\n"


def _turn(message: Message, engine: str) -> str:
    who = "<b>You</b>" if message.role == "user" else f"<b>{html.escape(engine)}</b> <small>{LABEL}</small>"
    if message.liked is not None:
        who += f" <small>· {RATED[message.liked]}</small>"
    return f"<section>{who}\n" + "\n".join(map(_part, message.parts)) + "\n</section>"


def _part(part: Part) -> str:
    if isinstance(part, Text) and part.document:
        words = html.escape(part.text)
        return f"<details><summary>{html.escape(part.document)}</summary><p>{words}</p></details>"
    if isinstance(part, Text):
        return f"<p>{html.escape(part.text)}</p>"
    caption = part.transcript if isinstance(part, Audio) else part.caption
    below = f"<br><small>{html.escape(caption)}</small>" if caption else ""
    if isinstance(part, Image):
        return f'<img src="{part.path.name}" alt="{html.escape(caption)}">{below}'
    tag = "audio" if isinstance(part, Audio) else "video"
    return f'<{tag} controls src="{part.path.name}"></{tag}>{below}'
