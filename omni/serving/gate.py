"""What stands before every route: who may come in, and how much may be brought along."""

from __future__ import annotations

import json
import secrets
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Gate:
    """Lets a request through that carries the key, if there is one, comes from no other site, and is not too large.

    State: how many are inside; bodies are held in memory, so there is a bound on that too.
    """

    def __init__(self, app: ASGIApp, key: str, most_bytes: int, most_at_once: int):
        """``key`` empty lets everybody in; ``most_bytes`` of a body."""
        self.app, self.key, self.most_bytes, self.most_at_once = app, key, most_bytes, most_at_once
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._inside += 1
        try:
            await self.app(scope, self._counted(receive), send)
        finally:
            self._inside -= 1

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        if self.key and not self._knows_key(headers):
            return answer(HTTPStatus.UNAUTHORIZED, "The key is missing or wrong; please send it as a bearer token.")
        origin = headers.get("origin")  # a page of another site, in the browser of somebody who may reach this one
        if origin and urlsplit(origin).netloc != headers.get("host"):
            return answer(HTTPStatus.FORBIDDEN, "Pages of other sites may not use this server.")
        if int(headers.get("content-length") or 0) > self.most_bytes:
            return self._too_large()
        if self._inside >= self.most_at_once:
            busy = "Too many requests at once; please try again soon."
            return answer(HTTPStatus.TOO_MANY_REQUESTS, busy, **{"Retry-After": "5"})
        return None

    def _knows_key(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), self.key.encode())

    def _counted(self, receive: Receive) -> Receive:
        """``receive`` with a bound, for bodies that do not tell their length."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.most_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, json.loads(self._too_large().body)["error"])
            return message

        return bounded

    def _too_large(self) -> JSONResponse:
        most = self.most_bytes // 2**20
        return answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request can carry {most} MB; please send smaller files.")


def answer(status: HTTPStatus, sentence: str, **headers: str) -> JSONResponse:
    """A refusal in OpenAI's form."""
    code = status.phrase.lower().replace(" ", "_")
    error = {"message": sentence, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status, headers)
