"""Every tab can be read and used by everybody, as far as axe-core can tell: wide and light, narrow and dark."""

from __future__ import annotations

import pytest
from browsing import barriers, playwright
from test_chat import ask, done
from test_keeping import more

Page, expect = playwright.Page, playwright.expect
TABS = ("Live", "Inside", "Check a file", "Exam")


@pytest.mark.parametrize(
    ("view", "theme"),
    [({"width": 1440, "height": 900}, "light"), ({"width": 390, "height": 844}, "dark")],
    indirect=["view"],
)
def test_axe_finds_no_barrier(page: Page, server, view: dict, theme: str):
    page.goto(f"{server.address}?__theme={theme}")
    page.wait_for_selector(".omni-welcome")
    assert barriers(page) == []
    ask(page, "everything")
    done(page)
    assert barriers(page) == []
    page.click("[title='Try again as …']")
    expect(page.locator(".omni-menu")).to_be_visible()
    assert barriers(page) == []
    page.keyboard.press("Escape")
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)  # for what fades in
        assert barriers(page) == [], tab
    page.get_by_role("tab", name="Chat").click()
    more(page)
    page.wait_for_timeout(500)
    assert barriers(page) == []
