"""What a browser sees while the engine is being loaded: a small page on the playground's own port, until that is ready.

Gradio builds its page from what the engine can do, so there is none before; a checkpoint may take minutes to come.
"""

from __future__ import annotations

import contextlib
import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from omni.errors import OmniError
from omni.events import Progress
from omni.ui.element import ASSETS
from omni.ui.head import ICON

STATE = "/omni-loading"  # what is being done, as JSON; the playground itself has no such address


class WaitingPage(contextlib.AbstractContextManager):
    """Serves inside its context. State: the server, and what is being done."""

    def __init__(self, host: str, port: int):
        """Raises OmniError where the address cannot be had."""
        self.progress = Progress("Starting")
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except OSError as error:
            raise OmniError(f"The page cannot be served on {host}:{port}: {error.strerror}.") from error
        self._server.daemon_threads = True

    def tell(self, progress: Progress) -> None:
        """Show this from now on."""
        self.progress = progress

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page, icon = (ASSETS / "waiting.html").read_bytes(), ICON.read_bytes()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N802, N805  (http.server's name; ``self`` is the page)
                if handler.path == STATE:
                    told = {"doing": self.progress.doing, "done": self.progress.done}
                    handler.answer(HTTPStatus.OK, json.dumps(told).encode(), "application/json")
                elif handler.path.partition("?")[0] == "/":
                    handler.answer(HTTPStatus.OK, page, "text/html; charset=utf-8")
                elif handler.path == "/favicon.ico":
                    handler.answer(HTTPStatus.OK, icon, "image/png")
                else:
                    handler.answer(HTTPStatus.SERVICE_UNAVAILABLE, b"The model is being loaded.", "text/plain")

            def answer(handler, status: HTTPStatus, body: bytes, kind: str) -> None:  # noqa: N805
                handler.send_response(status)
                handler.send_header("Content-Type", kind)
                handler.send_header("Content-Length", str(len(body)))
                handler.send_header("Cache-Control", "no-store")
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(handler, *_) -> None:  # noqa: N805
                pass

        return Handler
