"""Servers on this machine for the tests: real ones in a thread, and scripted ones that misbehave on purpose."""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from omni.engines.remote.line import Patience

QUICK = Patience(connect=2, first=1.0, between=0.5, whole=8, most_bytes=64 * 2**20)
PATIENCE = 30  # seconds that a loaded machine may take


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """An ASGI application on a port of its own; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(PATIENCE)


def until(condition: Callable[[], Any]) -> None:
    """Return as soon as the condition holds; fail where it never does."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(0.01)


class Exchange:
    """One request to a scripted server, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler):
        self.handler = handler
        self.path = handler.path
        self.method = handler.command
        self.headers = handler.headers
        self.raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.gone = threading.Event()

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        self.handler.send_response(status)
        for name, value in {"Content-Type": kind, "Transfer-Encoding": "chunked", **headers}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()

    def send(self, data: bytes) -> None:
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.handler.wfile.flush()

    def sse(self, *values: Any) -> None:
        for value in values:
            self.send(b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n")

    def end(self) -> None:
        self.handler.wfile.write(b"0\r\n\r\n")

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.head(status, "application/json", **headers)
        self.send(json.dumps(value).encode())
        self.end()

    def wait_until_gone(self) -> None:
        """Return when the other end has closed the connection."""
        if select.select([self.handler.connection], [], [], PATIENCE)[0] and not self.handler.connection.recv(1):
            self.gone.set()


class Scripted:
    """What a scripted server was asked, and its address."""

    def __init__(self, address: str):
        self.address = address
        self.asked: list[Exchange] = []

    def chats(self) -> list[Exchange]:
        return [one for one in self.asked if one.path == "/v1/chat/completions"]


@contextmanager
def scripted(script: Callable[[Exchange], None], models: Any = None) -> Iterator[Scripted]:
    """A server that lists one model and answers anything else as ``script`` does."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            exchange = Exchange(self)
            here.asked.append(exchange)
            if self.path == "/v1/models":
                exchange.json(models or {"object": "list", "data": [{"id": "tiny/Omni"}]})
                return
            try:
                script(exchange)
            except OSError:  # the other end has left, which some scripts wait for
                exchange.gone.set()
            self.close_connection = True

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here = Scripted(f"http://127.0.0.1:{server.server_address[1]}/v1")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()


def delta(text: str = "", finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of words."""
    content = {"content": text} if text else {}
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": content, "finish_reason": finish}],
        **more,
    }
