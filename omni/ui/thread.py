"""The thread as the page shows it: plain values from which ``assets/thread.js`` builds the nodes.

Media are the files of the conversation themselves, served as they are, so that a download has the very bytes
that were written.
"""

from __future__ import annotations

import base64
import io
import json
import re
from functools import lru_cache
from typing import Any

import numpy as np
from markdown_it import MarkdownIt
from PIL import Image as Pillow

from omni.conversation import Audio, Image, Message, Part, Text, Video, things
from omni.events import ClipPreview, ImagePreview
from omni.ui.draft import Draft
from omni.ui.visit import Visit, versions

SMALL = 128  # pixels; up to this side a preview is sent without loss

THOUGHTS = re.compile(r"\s*<think>(.*?)(?:</think>|\Z)", re.DOTALL)
MARKDOWN = MarkdownIt("js-default", {"html": False, "linkify": False, "breaks": True}).disable("image")


def thread_value(visit: Visit | None) -> str:
    """The thread but for the reply that is under way, with the name of its turn, as JSON.

    A value of many parts would be looked through by Gradio at each update of the page.
    """
    if visit is None:
        return json.dumps({"messages": [], "turn": None})
    busy, stopped = visit.turn is not None, visit.stopped
    settled = visit.asked if busy else visit.conversation
    messages = [message_value(message, place in stopped) for place, message in enumerate(settled.messages)]
    if not busy and len(visit.ways) > 1:
        messages = [message | _version_value(visit, place) for place, message in enumerate(messages)]
    return json.dumps({"messages": messages, "turn": visit.turn.name if busy else None}, ensure_ascii=False)


def growing_value(visit: Visit) -> dict[str, Any]:
    """The reply that is under way, and the name of its turn: all that changes while it is made."""
    return {"turn": visit.turn.name, "message": draft_value(visit.draft)}


def _version_value(visit: Visit, place: int) -> dict[str, int]:
    """Which of how many versions a message is, where there are several."""
    known = versions(visit, place)
    if len(known) < 2:
        return {}
    return {"version": known.index(visit.conversation.messages[place]), "versions": len(known)}


def message_value(message: Message, stopped: bool = False) -> dict[str, Any]:
    """One message that stands."""
    words = message.text if message.role == "assistant" else ""
    parts = [thing_value(thing, words) for thing in things(message.parts)]
    said = {"text": message.text, "stopped": stopped, "liked": message.liked}
    return {"role": message.role, "parts": parts, **said}


def draft_value(draft: Draft) -> dict[str, Any]:
    """The reply so far, its picture or clip as far as it is known."""
    words = "\n".join(part.text for part in draft.made if isinstance(part, Text))
    parts = [part_value(part, words) for part in draft.made]
    if draft.preview is not None:
        parts.append(preview_value(draft.preview))
    return {"role": "assistant", "parts": parts, "text": "", "stopped": False, "liked": None}


def thing_value(thing: tuple[Part, ...], words: str) -> dict[str, Any]:
    """One part, or a document with its pages."""
    first, *pages = thing
    if isinstance(first, Text) and first.document:
        shown = [part_value(page, "") for page in pages]
        return {"kind": "document", "name": first.document, "text": first.text, "pages": shown}
    return part_value(first, words)


def part_value(part: Part, words: str) -> dict[str, Any]:
    """One part; a transcript or a caption is shown unless it stands written beside it, as the reply's ``words``."""
    match part:
        case Text(text=text):
            return {"kind": "text", "html": written_html(text)}
        case Image(path, width, height, caption=caption, credentials=credentials):
            shown = noted("" if caption in words else caption, credentials)
            size = {"width": width, "height": height}
            return {"kind": "image", "file": str(path), **size, "alt": caption, "caption": shown}
        case Audio(path, seconds, _, transcript, credentials):
            shown = noted("" if words else transcript, credentials)
            return {"kind": "audio", "file": str(path), "seconds": seconds, "caption": shown}
        case Video(path, width, height, caption=caption, credentials=credentials):
            shown = noted("" if caption in words else caption, credentials)
            size = {"width": width, "height": height}
            return {"kind": "video", "file": str(path), **size, "alt": caption, "caption": shown}


def noted(caption: str, credentials: str) -> str:
    """A caption, and who signed the file."""
    return " · ".join(filter(None, (caption, credentials)))


@lru_cache(maxsize=4096)  # a thread is shown ten times a second, and nearly all of it is as it was
def written_html(text: str) -> str:
    """Markdown as HTML that is safe to show: markup in the words stays words. Thoughts that come first are folded."""
    thoughts = THOUGHTS.match(text)
    if thoughts is None:
        return MARKDOWN.render(text)
    folded = f"<details><summary>Thoughts</summary>{MARKDOWN.render(thoughts[1])}</details>"
    return folded + MARKDOWN.render(text[thoughts.end() :])


def preview_value(preview: ImagePreview | ClipPreview) -> dict[str, Any]:
    """A picture that sharpens, or the newest frame of a clip."""
    if isinstance(preview, ImagePreview):
        return {"kind": "preview", "picture": data_url(preview.pixels), "done": preview.done, "word": "Drawing"}
    done = (preview.index + 1) / preview.total
    word = f"Frame {preview.index + 1} of {preview.total}"
    return {"kind": "preview", "picture": data_url(preview.frame), "done": done, "word": word}


def data_url(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as an address that holds the picture itself."""
    kind = "PNG" if max(pixels.shape[:2]) <= SMALL else "JPEG"
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, kind, compress_level=1, quality=80)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
