"""A conversation is saved as one file, and opened again."""

from __future__ import annotations

import zipfile
from pathlib import Path

from browsing import playwright
from test_chat import REPLY, ask, done

Page, expect = playwright.Page, playwright.expect


def more(page: Page) -> None:
    """Open the sidebar."""
    page.locator("#omni-more .toggle-button").click()
    expect(page.get_by_role("button", name="Save conversation")).to_be_visible()


def test_a_conversation_is_saved_and_opened_again(page: Page, tmp_path: Path):
    ask(page, "everything")
    done(page)
    page.locator(REPLY).get_by_role("button", name="Good reply").click()
    expect(page.locator(REPLY).get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    more(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save conversation").click()
    file = tmp_path / "conversation.zip"
    download.value.save_as(file)
    with zipfile.ZipFile(file) as saved:
        assert {"conversation.html", "conversation.json"} < set(saved.namelist())
        assert "Good reply" in saved.read("conversation.html").decode()
    page.click("#omni-fresh")
    expect(page.locator("article")).to_have_count(0)
    page.locator("#omni-keep input[type=file]").set_input_files(file)
    expect(page.locator("article")).to_have_count(2)
    expect(page.locator(REPLY)).to_contain_text("You said: everything.")
    expect(page.locator(REPLY).get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(f"{REPLY} img")).to_have_count(1)
    assert page.locator(f"{REPLY} img").evaluate("(one) => one.decode().then(() => one.naturalWidth)") > 0
    ask(page, "and more")
    done(page)
    expect(page.locator("article")).to_have_count(4)


def test_what_cannot_be_opened_is_a_sentence_and_the_thread_stays(page: Page, tmp_path: Path):
    ask(page, "hello")
    done(page)
    more(page)
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK nothing of the kind")
    page.locator("#omni-keep input[type=file]").set_input_files(broken)
    expect(page.locator(".omni-status")).to_contain_text("damaged or was not saved here")
    expect(page.locator("article")).to_have_count(2)


def test_nothing_is_not_saved(page: Page):
    more(page)
    page.get_by_role("button", name="Save conversation").click()
    expect(page.locator(".omni-status")).to_contain_text("There is nothing to save yet.")
