"""The head of the page, as Gradio does not offer it: a script before its scripts, a social card instead of its card."""

from __future__ import annotations

import re
from html import escape

from gradio.route_utils import get_root_url
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omni.ui.element import ASSETS

NAME = "Omni Playground"
ABOUT = (
    "Talk to an omni model with webcam, microphone, files and words, and get words, speech, pictures and clips back, "
    "streamed into one thread."
)
ICON, CARD = ASSETS / "icon.png", ASSETS / "card.png"
CARD_PATH, CARD_SIZE = "/omni-card.png", (1200, 630)
HEAD = b"<head>"
OTHER_CARDS = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*>\s*')


class Head:
    """Puts ``script`` and the page's card at the beginning of its head; every other answer goes through as it is."""

    def __init__(self, app: ASGIApp, script: str):
        self.app, self.script = app, f"<script>{script}</script>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].strip("/") == "":
            tags = self.script + card(get_root_url(Request(scope), "/", scope.get("root_path")))
            await self.app(scope, receive, Rewriting(send, tags.encode()))
        else:
            await self.app(scope, receive, send)


class Rewriting:
    """Sends an answer with ``tags`` behind its HEAD. State: how the answer began, held until its first bytes come."""

    def __init__(self, send: Send, tags: bytes):
        self.send, self.tags = send, tags
        self.start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        start, self.start = self.start, None
        if start is not None:
            body = message.get("body", b"")
            if HEAD in body and not any(name == b"content-encoding" for name, _ in start["headers"]):
                rewritten = OTHER_CARDS.sub(b"", body).replace(HEAD, HEAD + self.tags, 1)
                message = {**message, "body": rewritten}
                start = {**start, "headers": [_longer(one, len(rewritten) - len(body)) for one in start["headers"]]}
            await self.send(start)
        await self.send(message)


def card(address: str) -> str:
    """What other programs show of a link to the page, which is at ``address``: its icon, name and picture."""
    address, (width, height) = escape(address), CARD_SIZE
    told = {
        "og:type": "website",
        "og:url": address,
        "og:title": NAME,
        "og:description": ABOUT,
        "og:image": f"{address}{CARD_PATH}",
        "og:image:width": width,
        "og:image:height": height,
        "og:image:alt": "A conversation with a model in words, sound and pictures",
    }
    metas = "".join(f'<meta property="{name}" content="{value}">' for name, value in told.items())
    return (
        f'<link rel="icon" type="image/png" href="{address}/favicon.ico"><meta name="description" content="{ABOUT}">'
        f'{metas}<meta name="twitter:card" content="summary_large_image">'
    )


def card_route() -> Route:
    """Where the card's picture is."""
    return Route(CARD_PATH, lambda request: FileResponse(CARD, headers={"cache-control": "public, max-age=86400"}))


def _longer(header: tuple[bytes, bytes], by: int) -> tuple[bytes, bytes]:
    name, value = header
    return (name, str(int(value) + by).encode()) if name == b"content-length" else header
