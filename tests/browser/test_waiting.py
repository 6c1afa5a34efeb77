"""The page before the page: it shows how far the loading is, and gives way by itself."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from browsing import PATIENCE, playwright

from omni.events import Progress
from omni.ui.waiting import WaitingPage


class Ready(BaseHTTPRequestHandler):
    """What comes after it: knows its own page only."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>Ready</h1>")

    def log_message(self, *_) -> None:
        pass


def test_a_visitor_sees_how_far_it_is_and_then_the_playground(browser):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    page = browser.new_page(viewport={"width": 390, "height": 700})
    with WaitingPage(*address) as waiting:
        page.goto("http://{}:{}/".format(*address))
        waiting.tell(Progress("Writing the experts in 4 bits, once", 0.43))
        expect = playwright.expect(page.locator("#doing"))
        expect.to_have_text("Writing the experts in 4 bits, once: 43 %", timeout=PATIENCE)
        waiting.tell(Progress("Loading the model"))
        expect.to_have_text("Loading the model …", timeout=PATIENCE)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    server = ThreadingHTTPServer(address, Ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        playwright.expect(page.locator("h1")).to_have_text("Ready", timeout=PATIENCE)
    finally:
        page.close()
        server.shutdown()
        server.server_close()
