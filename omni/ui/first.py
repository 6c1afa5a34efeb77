"""A script in front of everything else on the page: what Gradio takes as ``head`` comes behind its own scripts."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEAD = b"<head>"


class ScriptFirst:
    """Puts ``script`` at the beginning of the page's head; every other answer goes through as it is."""

    def __init__(self, app: ASGIApp, script: str):
        self.app, self.tag = app, f"<script>{script}</script>".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].strip("/") == "":
            await self.app(scope, receive, Inserting(send, self.tag))
        else:
            await self.app(scope, receive, send)


class Inserting:
    """Sends an answer with ``tag`` behind its HEAD. State: how the answer began, held until its first bytes come."""

    def __init__(self, send: Send, tag: bytes):
        self.send, self.tag = send, tag
        self.start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        start, self.start = self.start, None
        if start is not None:
            body = message.get("body", b"")
            if HEAD in body and not any(name == b"content-encoding" for name, _ in start["headers"]):
                message = {**message, "body": body.replace(HEAD, HEAD + self.tag, 1)}
                start = {**start, "headers": [_longer(one, len(self.tag)) for one in start["headers"]]}
            await self.send(start)
        await self.send(message)


def _longer(header: tuple[bytes, bytes], by: int) -> tuple[bytes, bytes]:
    name, value = header
    return (name, str(int(value) + by).encode()) if name == b"content-length" else header
