"""The whole way in a real browser: the page on a remote engine, that on our own server, that on Primer as shipped."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from browsing import visit
from playwright.sync_api import Page, expect
from processes import REPOSITORY, running
from test_chat import REPLY, ask, done

from omni.engines.primer import WEIGHTS
from omni.primer.shipping import FILE

pytestmark = pytest.mark.skipif(not (WEIGHTS / FILE).exists(), reason="no weights are shipped yet")

KEY = "sk-of-the-browser-test"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page whose model is served by another page, both started as a host would start them."""
    root = tmp_path_factory.mktemp("remote")
    keys = {"OMNI_API_KEY": KEY, "OMNI_REMOTE_KEY": KEY, "OMP_NUM_THREADS": "1"}

    def page(name: str, *arguments: str) -> AbstractContextManager[str]:
        program = [sys.executable, str(REPOSITORY / "app.py"), "--root", str(root / name), *arguments]
        ready = "/health" if "--api" in arguments else "/config"
        return running(lambda port: [*program, "--port", str(port)], root / f"{name}.log", ready, **keys)

    with page("back", "--api") as back:
        far = ("--engine", "remote", "--base-url", f"{back}/v1", "--log-level", "debug")
        with page("front", *far) as front:
            yield f"{front}/"
    assert all(KEY not in (root / f"{name}.log").read_text(errors="replace") for name in ("back", "front"))


@pytest.fixture
def talk(browser, front: str, view: dict) -> Iterator[Page]:
    yield from visit(browser, front, view)


def test_a_conversation_with_speech_and_a_picture_goes_through_two_servers(talk: Page):
    expect(talk.locator("#omni-title")).to_contain_text("Primer")
    ask(talk, "say hello")
    talk.wait_for_function("Number(document.querySelector('.omni-player').dataset.loudest) > 0.05")
    done(talk)
    expect(talk.locator(REPLY)).to_contain_text("Hello")
    talk.wait_for_function("document.querySelector('article[data-role=assistant] audio').duration > 0.3")
    talk.click("#omni-fresh")
    talk.wait_for_selector(".omni-welcome")
    ask(talk, "draw a cat above a rocket on green")
    talk.wait_for_selector(".omni-preview img")
    done(talk)
    expect(talk.locator(REPLY).last).to_contain_text(re.compile("Here is a .+ on green"))
    talk.wait_for_function("document.querySelector('article img').naturalWidth == 256")
    ask(talk, "make it blue")
    done(talk)
    expect(talk.locator(REPLY).last).to_contain_text("blue")
    assert KEY not in talk.content()
