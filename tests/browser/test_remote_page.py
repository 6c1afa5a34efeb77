"""The whole way in a real browser: the page on a remote engine, that on our own server, that on Primer as shipped."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from browsing import PATIENCE, visit
from playwright.sync_api import Page, expect
from processes import REPOSITORY, running
from test_chat import REPLY, ask, done

from omni.engines.primer import WEIGHTS
from omni.primer.shipping import FILE

pytestmark = pytest.mark.skipif(not (WEIGHTS / FILE).exists(), reason="no weights are shipped yet")


@pytest.fixture(scope="module")
def front(playground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page whose model is served by another page, started as a host would start it."""
    root = tmp_path_factory.mktemp("remote")
    program = [sys.executable, str(REPOSITORY / "app.py"), "--root", str(root / "data"), "--log-level", "debug"]
    program += ["--engine", "remote", "--base-url", f"{playground.address}/v1"]
    log, environment = root / "server.log", {"OMNI_REMOTE_KEY": playground.key}
    with running(lambda port: [*program, "--port", str(port)], log, "/config", **environment) as address:
        yield f"{address}/"
    assert playground.key not in log.read_text(errors="replace")
    assert playground.key not in playground.log.read_text(errors="replace")


@pytest.fixture
def talk(browser, front: str, view: dict) -> Iterator[Page]:
    yield from visit(browser, front, view)


def test_a_conversation_with_speech_and_a_picture_goes_through_two_servers(talk: Page, playground):
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
    expect(talk.locator(REPLY).last).to_contain_text("blue", timeout=PATIENCE)  # what was done may be the turn before
    assert playground.key not in talk.content()
