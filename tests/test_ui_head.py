"""A script in front of the page and the card of a link to it, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from omni.ui.head import ABOUT, CARD, CARD_SIZE, ICON, Head, card, card_route

PAGE = "<html><head><title>é</title></head><body>head</body></html>"


def client(answer: Callable[[], Response], path: str = "/") -> TestClient:
    route = Route(path, lambda request: answer(), methods=["GET", "POST"])
    return TestClient(Starlette(routes=[route], middleware=[Middleware(Head, script="let a;")]))


def test_the_script_is_the_first_thing_in_the_head():
    answer = client(lambda: HTMLResponse(PAGE)).get("/")
    assert answer.text == PAGE.replace("<head>", f"<head><script>let a;</script>{card('http://testserver')}")
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_the_card_is_ours_and_says_where_the_page_is_for_others():
    theirs = (
        '<meta property="og:title" content="Gradio" />\n<meta\n\tname="twitter:image"\n\tcontent="https://x/y.jpg"\n/>'
    )
    got = client(lambda: HTMLResponse(PAGE.replace("<title>", f"{theirs}<title>"))).get(
        "/", headers={"x-forwarded-host": "demo.example", "x-forwarded-proto": "https"}
    )
    assert "Gradio" not in got.text and "y.jpg" not in got.text
    assert '<meta property="og:image" content="https://demo.example/omni-card.png">' in got.text and ABOUT in got.text
    assert int(got.headers["content-length"]) == len(got.content)


def test_a_host_cannot_write_into_the_page():
    got = client(lambda: HTMLResponse(PAGE)).get("/", headers={"x-forwarded-host": '"><script>alert(1)</script>'})
    assert got.status_code == 200 and "<script>alert" not in got.text


def test_the_pictures_of_the_card_and_of_the_icon_are_there():
    got = TestClient(Starlette(routes=[card_route()])).get("/omni-card.png")
    assert got.headers["content-type"] == "image/png" and got.content == CARD.read_bytes()
    assert Image.open(CARD).size == CARD_SIZE and Image.open(ICON).size == (256, 256)


@pytest.mark.parametrize(
    ("answer", "method", "path"),
    [
        (lambda: HTMLResponse(PAGE), "GET", "/other"),
        (lambda: HTMLResponse(PAGE), "POST", "/"),
        (lambda: JSONResponse({"a": "b"}), "GET", "/"),
        (lambda: Response(PAGE.encode(), headers={"content-encoding": "none"}), "GET", "/"),
        (lambda: Response(status_code=204), "GET", "/"),
    ],
)
def test_every_other_answer_is_as_it_was(answer, method, path):
    got = client(answer, path).request(method, path)
    assert got.content == answer().body and got.status_code == answer().status_code
