"""The engines behind the title: what each needs, and the whole server started again with another one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from browsing import barriers, playwright, visit
from processes import REPOSITORY, running
from test_words import IN_SIGHT, KEPT

Page, expect = playwright.Page, playwright.expect
VIEWS = [{"width": 1440, "height": 900}, {"width": 390, "height": 844}]
LOADED = 120_000  # milliseconds for another program to stand, on a loaded machine
NAME, ENGINES = ".omni-title > button", ".omni-lineup section"


def look(page: Page) -> None:
    page.locator(NAME).click()
    page.wait_for_selector(ENGINES, timeout=LOADED)


@pytest.mark.parametrize("view", VIEWS, indirect=True)
def test_every_engine_tells_what_it_needs_and_how_it_is_started(page: Page, view: dict):
    look(page)
    expect(page.locator(ENGINES)).to_have_count(3)
    remote = page.locator(ENGINES).last
    expect(remote).to_contain_text("not available here")
    expect(remote).to_contain_text("python app.py --engine remote")
    expect(remote.get_by_role("button", name="instead")).to_have_count(0)
    assert page.evaluate("document.querySelector('.omni-lineup').scrollWidth") <= view["width"]
    assert barriers(page) == []
    page.keyboard.press("Escape")
    expect(page.locator(".omni-lineup")).not_to_be_visible()


@pytest.mark.parametrize("locale", ["zh-CN", "vi-VN"])
def test_no_english_is_left_in_it(page: Page, browser, server, locale: str):
    look(page)
    english = set(page.evaluate(IN_SIGHT))
    for abroad in visit(browser, server.address, VIEWS[0], locale=locale):
        look(abroad)
        left = english & set(abroad.evaluate(IN_SIGHT))
    assert left <= KEPT | {"Primer", "Qwen3-Omni", "Remote"}


def started(place: Path, *flags: str, **environment: str):
    """The program on Primer, with more flags."""
    command = [sys.executable, str(REPOSITORY / "app.py"), "--root", str(place / "data"), *flags]
    return running(lambda port: [*command, "--port", str(port)], place / "log", "/gradio_api/info",
                   OMP_NUM_THREADS="1", **environment)  # fmt: skip


def switch(page: Page, to: str) -> None:
    """Start another engine, and wait for the page of the program that comes after this one."""
    look(page)
    page.evaluate("window.isOld = true")
    page.get_by_role("button", name=f"Start {to} instead").click()
    page.get_by_role("button", name="Start it").click()
    page.wait_for_function("!window.isOld && document.querySelector('.omni-welcome')", timeout=LOADED)


def browse(browser, address: str) -> Page:
    """Without a look at the console: a server that starts again is complained of there."""
    page = browser.new_page(viewport=VIEWS[0], locale="en-US")
    page.goto(address)
    page.wait_for_selector(".omni-welcome")
    return page


def test_another_engine_takes_the_place_of_the_first_and_gives_it_back(browser, playground, tmp_path: Path):
    other = f"{playground.address}/v1"
    with started(tmp_path, "--base-url", other, OMNI_REMOTE_KEY=playground.key) as address:
        page = browse(browser, address)
        expect(page.locator(".omni-welcome p")).to_contain_text("picture book")
        for name in ("Remote", "Primer"):
            switch(page, name)
            look(page)
            expect(page.locator("section[data-runs=true]")).to_contain_text(name)
            page.keyboard.press("Escape")
        page.close()


def test_an_engine_that_does_not_open_is_told_and_the_first_is_back(browser, tmp_path: Path):
    with started(tmp_path, "--base-url", "http://127.0.0.1:9/v1") as address:  # where nobody listens
        page = browse(browser, address)
        switch(page, "Remote")
        page.wait_for_selector(ENGINES, timeout=LOADED)  # opens by itself, in the browser that asked for it
        expect(page.locator(".omni-candidates > .omni-lacks")).to_be_visible()
        expect(page.locator("section[data-runs=true]")).to_contain_text("Primer")
        page.close()
