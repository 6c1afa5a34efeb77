"""The page in Chinese and Vietnamese: no English is left in sight, and nothing that was said is touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsing import playwright, visit
from test_chat import ask, done

Page, expect = playwright.Page, playwright.expect

# Texts in sight and what hovering or a screen reader tells, without what people and models say.
IN_SIGHT = """() => {
  const said = ".omni-words, figcaption, textarea, pre, code, script, style, noscript, [translate=no]";
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = new Set();
  while (texts.nextNode()) {
    const holder = texts.currentNode.parentElement;
    if (!holder.closest(said) && holder.checkVisibility()) found.add(texts.currentNode.data.trim());
  }
  for (const one of document.body.querySelectorAll("[title], [aria-label], [placeholder]"))
    if (one.checkVisibility() && !one.closest("[translate=no]"))
      for (const name of ["title", "aria-label", "placeholder"]) found.add((one.getAttribute(name) ?? "").trim());
  return [...found].filter((text) => /[A-Za-z]{3}/.test(text));
}"""
NAMES = {"Omni Playground", "Fake"}


@pytest.fixture(params=["zh-CN", "vi-VN"])
def abroad(request, browser, server) -> Iterator[Page]:
    yield from visit(browser, server.address, {"width": 1200, "height": 850}, locale=request.param)


def test_probe(abroad: Page):
    tabs = abroad.get_by_role("tab")
    tabs.nth(0).click()
    ask(abroad, "everything")
    done(abroad)
    for i in range(tabs.count()):
        tabs.nth(i).click()
        abroad.wait_for_timeout(500)
        for one in abroad.evaluate(IN_SIGHT):
            print("LEFT", i, repr(one))
    assert False
