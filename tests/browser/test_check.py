"""The tab that checks a file: what was made on the page is known, also after it lost its credentials."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from test_chat import REPLY, ask, done

FILES = "#omni-tab-check input[type=file]"
DROP = """([selector, name, text]) => {
    const files = new DataTransfer();
    files.items.add(new File([text], name));
    document.querySelector(selector).dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true }));
}"""


@pytest.fixture
def made(page: Page, tmp_path: Path) -> Path:
    """A picture that was made on the page and downloaded."""
    ask(page, "draw")
    done(page)
    with page.expect_download() as kept:
        page.locator("article a[download]").click()
    kept.value.save_as(tmp_path / "made.png")
    return tmp_path / "made.png"


def finished(page: Page, replies: int) -> None:
    """Wait until there are as many replies, the last one complete."""
    expect(page.locator(REPLY)).to_have_count(replies)
    page.wait_for_selector("body:not(.omni-busy)")


def checked(page: Page, path: Path) -> None:
    page.set_input_files(FILES, path)
    expect(page.locator(".omni-report small")).to_have_text(path.name)
    page.wait_for_selector(".omni-report dl")


def test_a_download_is_known_and_its_stripped_copy_too(page: Page, made: Path):
    page.get_by_role("tab", name="Check a file").click()
    checked(page, made)
    expect(page.locator(".omni-report h3")).to_have_text("Made by this playground, and unchanged since")
    expect(page.locator(".omni-report dl")).to_contain_text("yes, a model (Fake) made it.")
    Image.open(made).save(made.with_name("copy.png"))
    checked(page, made.with_name("copy.png"))
    expect(page.locator(".omni-report h3")).to_have_text("Made by this playground; its credentials are gone")
    expect(page.locator(".omni-report dl")).to_contain_text("the one of this playground stands in it")


def test_a_file_that_is_dropped_is_checked_and_not_attached(page: Page, server):
    page.get_by_role("tab", name="Check a file").click()
    page.evaluate(DROP, [".omni-drop", "letter.txt", "just words"])
    expect(page.locator(".omni-report h3")).to_have_text("Nothing in this file tells where it comes from")
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator(".omni-chip")).to_have_count(0)


def test_what_cannot_be_checked_is_a_sentence(page: Page, tmp_path: Path):
    (tmp_path / "empty.png").touch()
    page.get_by_role("tab", name="Check a file").click()
    page.set_input_files(FILES, tmp_path / "empty.png")
    expect(page.locator(".omni-report h3")).to_have_text("This file is empty; please choose another one.")


def test_every_reply_says_that_a_model_made_it(page: Page):
    ask(page, "long")
    expect(page.locator("article.omni-growing .omni-made")).to_have_text("Made by AI")  # while it is being made
    finished(page, 1)
    ask(page, "draw")
    finished(page, 2)
    expect(page.locator(f"{REPLY} .omni-made")).to_have_count(2)
    for label in page.locator(f"{REPLY} .omni-made").all():
        assert label.inner_text() == "Made by AI"
        assert label.evaluate("(one) => getComputedStyle(one.parentElement).opacity") == "1"
    assert page.locator("article[data-role=user] .omni-made").count() == 0


def test_credentials_of_an_upload_are_shown(page: Page, made: Path):
    page.set_input_files("#omni-composer > input[type=file]", made)
    expect(page.locator(".omni-chip")).to_contain_text("signed by Omni Playground")
    ask(page, "draw it again")
    finished(page, 2)
    expect(page.get_by_text("signed by Omni Playground")).to_be_visible()
    with page.expect_download() as kept:
        page.locator(f"{REPLY} a[download]").last.click()
    page.get_by_role("tab", name="Check a file").click()
    kept.value.save_as(made.with_name("again.png"))
    checked(page, made.with_name("again.png"))
    expect(page.locator(".omni-report dl")).to_contain_text("it was edited from a file signed by Omni Playground")


def test_the_words_of_a_request_stand_in_the_file_only_where_wished(page: Page, tmp_path: Path):
    for replies, wished in ((1, False), (2, True)):
        if wished:
            page.locator("#omni-more .toggle-button").click()
            page.get_by_label("My words in the file").check()
            page.keyboard.press("Escape")
        ask(page, "draw a secret")
        finished(page, replies)
        with page.expect_download() as kept:
            page.locator("article a[download]").last.click()
        assert (b"draw a secret" in kept.value.path().read_bytes()) == wished
