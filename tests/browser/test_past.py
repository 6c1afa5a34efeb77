"""Chats that the browser keeps: they come back as they were, and go when they are to be forgotten."""

from __future__ import annotations

import json
from pathlib import Path

from browsing import playwright, visit
from test_chat import REPLY, ask, done
from test_keeping import more

Page, expect = playwright.Page, playwright.expect
CHATS = ".omni-past li"
COUNT = """() => new Promise((done) => {
  indexedDB.open("omni-past").onsuccess = ({ target }) => {
    const count = target.result.transaction("files").objectStore("files").count();
    count.onsuccess = () => done(count.result);
  };
})"""  # of the files that are kept


def fresh(page: Page) -> None:
    page.click("#omni-fresh")
    expect(page.locator("article")).to_have_count(0)


def kept(page: Page, count: int, question: str) -> None:
    """Ask, and wait until the browser has ``count`` chats."""
    ask(page, question)
    done(page)
    expect(page.locator(f"{CHATS} .omni-chat", has_text=question)).to_have_count(1)
    expect(page.locator(CHATS)).to_have_count(count)


def test_a_chat_comes_back_with_its_media_and_goes_on(page: Page):
    kept(page, 1, "everything")
    page.locator(REPLY).get_by_role("button", name="Good reply").click()
    expect(page.locator(REPLY).get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    fresh(page)
    kept(page, 2, "hello")
    page.reload()
    recent = page.locator(".omni-recent .omni-chat")
    expect(recent).to_have_text(["hello", "everything"])
    recent.nth(1).click()
    expect(page.locator("article")).to_have_count(2)
    expect(page.locator(f"{CHATS}[aria-current] .omni-chat")).to_have_text("everything")
    expect(page.locator(f"{CHATS} .omni-chat")).to_have_text(["hello", "everything"])  # looking makes it no newer
    expect(page.locator(REPLY).get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(f"{REPLY} :is(img, audio, video)")).to_have_count(3)
    assert page.locator(f"{REPLY} img").evaluate("(one) => one.decode().then(() => one.naturalWidth)") > 0
    ask(page, "and more")  # in the same chat, which is now the newest
    done(page)
    expect(page.locator(f"{CHATS} .omni-chat")).to_have_text(["everything", "hello"])


def test_chats_are_forgotten_one_by_one_and_all(page: Page):
    for count, question in enumerate(("first", "draw a second", "third"), 1):
        kept(page, count, question)
        fresh(page)
    assert page.evaluate(COUNT) == 1
    more(page)
    page.locator(CHATS).nth(1).get_by_role("button", name="Forget this chat").click()
    expect(page.locator(f"{CHATS} .omni-chat")).to_have_text(["third", "first"])
    page.get_by_role("button", name="Forget all").click()
    expect(page.locator(CHATS)).to_have_count(0)
    assert page.evaluate(COUNT) == 0


def test_nothing_is_kept_by_who_does_not_want_it(page: Page):
    more(page)
    page.get_by_label("Keep chats in this browser").uncheck()
    ask(page, "hello")
    done(page)
    fresh(page)
    page.reload()
    expect(page.get_by_label("Keep chats in this browser")).not_to_be_checked()
    expect(page.locator(CHATS)).to_have_count(0)


def test_another_visitor_sees_none_of_it(page: Page, browser, server):
    kept(page, 1, "a secret")
    for other in visit(browser, server.address, {"width": 1200, "height": 850}):
        expect(other.locator(".omni-suggestions")).to_be_visible()
        expect(other.locator(CHATS)).to_have_count(0)


def test_a_chat_that_was_tampered_with_is_refused_and_the_thread_stays(page: Page, tmp_path: Path):
    ask(page, "hello")
    done(page)
    told = {"format": "omni-playground", "version": 1, "messages": [{"role": "user", "parts": [{"image": "../a.png"}]}]}
    description = tmp_path / "chat.json"
    description.write_text(json.dumps(told))
    page.locator("#omni-reopen input[type=file]").set_input_files([description])
    expect(page.locator(".omni-status")).to_contain_text("damaged or was not saved here")
    expect(page.locator("article")).to_have_count(2)
