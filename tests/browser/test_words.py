"""The page in Chinese and Vietnamese: no English of ours is left in sight, and nothing that was said is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browsing import playwright, visit
from fake_engine import FakeEngine
from test_chat import REPLY, ask, done

Page, expect = playwright.Page, playwright.expect

# Texts in sight and what hovering or a screen reader tells, without what people and models say.
IN_SIGHT = """() => {
  const said = ".omni-words, article figcaption, textarea, pre, code, script, style, noscript, video, [translate=no]";
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = new Set();
  while (texts.nextNode()) {
    const holder = texts.currentNode.parentElement;
    if (!holder.closest(said) && holder.checkVisibility()) found.add(texts.currentNode.data.trim());
  }
  for (const one of document.body.querySelectorAll("[title], [aria-label], [placeholder]"))
    if (one.checkVisibility() && !one.closest(said))
      for (const name of ["title", "aria-label", "placeholder"]) found.add((one.getAttribute(name) ?? "").trim());
  return [...found].filter((text) => /[A-Za-z]{3}/.test(text));
}"""
GRADIOS = {
    "common.complete",
    "processing |",
}  # a key of its own, and what it writes unseen while an event is on its way
KEPT = {"Omni Playground", "Fake", FakeEngine.capabilities.about, *GRADIOS}
NAMES = {"Primer", "Qwen3-Omni", "Remote", "RAM", "float#", "Apache-#"}
NUMBER = re.compile(r"\d[\d.,]*")
VIEW = {"width": 1200, "height": 850}


@pytest.fixture(params=["zh-CN", "vi-VN"])
def abroad(request, browser, server) -> Iterator[Page]:
    yield from visit(browser, server.address, VIEW, locale=request.param)


def in_sight(page: Page) -> set[str]:
    """Every tab's texts, with a reply in the thread; # stands for numbers, which differ from visit to visit."""
    found = set(page.evaluate(IN_SIGHT))
    ask(page, "everything")
    done(page)
    found |= set(page.evaluate(IN_SIGHT))
    tabs = page.get_by_role("tab")
    for place in range(tabs.count()):
        tabs.nth(place).click()
        expect(tabs.nth(place)).to_have_attribute("aria-selected", "true")
        found |= set(page.evaluate(IN_SIGHT))
    page.wait_for_selector(".omni-exam:not([data-state=unknown])", timeout=120_000)  # the judges come in
    return {NUMBER.sub("#", text) for text in found | set(page.evaluate(IN_SIGHT))}


def test_no_english_of_the_page_is_left(page: Page, abroad: Page):
    assert in_sight(page) & in_sight(abroad) - KEPT == set()


@pytest.mark.parametrize("server", ["primer"], indirect=True)
def test_nor_of_what_the_model_tells_of_itself(page: Page, abroad: Page):
    assert in_sight(page) & in_sight(abroad) - KEPT - NAMES == set()


def test_what_was_said_stays_as_it_was(abroad: Page):
    ask(abroad, "Stop")
    done(abroad)
    expect(abroad.locator(REPLY)).to_contain_text("You said: Stop.")
    expect(abroad.locator("article").first.locator(".omni-words")).to_have_text("Stop")
