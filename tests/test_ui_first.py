"""A script in front of the page, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from omni.ui.first import ScriptFirst

PAGE = "<html><head><title>é</title></head><body>head</body></html>"


def client(answer: Callable[[], Response], path: str = "/") -> TestClient:
    route = Route(path, lambda request: answer(), methods=["GET", "POST"])
    return TestClient(Starlette(routes=[route], middleware=[Middleware(ScriptFirst, script="let a;")]))


def test_the_script_is_the_first_thing_in_the_head():
    answer = client(lambda: HTMLResponse(PAGE)).get("/")
    assert answer.text == PAGE.replace("<head>", "<head><script>let a;</script>")
    assert int(answer.headers["content-length"]) == len(answer.content)


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
