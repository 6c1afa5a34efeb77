"""A visitor talks with the page: words, speech, pictures and clips come back and can be kept."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Page, expect

ASKED, REPLY = "article[data-role=user]", "article[data-role=assistant]"
SIDEWAYS = """[...document.querySelectorAll('.omni-scroller, .omni-scroller *')].filter(
    (one) => getComputedStyle(one).overflowX === 'auto' && one.scrollWidth > one.clientWidth + 1).length"""


def ask(page: Page, words: str) -> None:
    page.fill("#omni-words textarea", words)
    page.press("#omni-words textarea", "Enter")


def done(page: Page) -> None:
    page.wait_for_selector(".omni-status[data-state=done]")


def test_words_come_back_with_their_figures(page: Page):
    ask(page, "good morning")
    done(page)
    expect(page.locator(REPLY)).to_contain_text("You said: good morning. It went well.")
    expect(page.locator(f"{REPLY} strong")).to_have_text("went")
    expect(page.locator(".omni-status")).to_contain_text("first words 0.1 s")
    expect(page.locator("#omni-words textarea")).to_have_value("")


def test_words_of_a_visitor_are_never_markup(page: Page):
    ask(page, "<img src=x onerror=alert(1)> ${alert(1)} {{value}} `")
    done(page)
    expect(page.locator(ASKED)).to_contain_text("<img src=x onerror=alert(1)> ${alert(1)} {{value}}")
    assert page.locator("article img").count() == 0


def test_speech_is_heard_while_it_is_made(page: Page):
    ask(page, "speak")
    page.wait_for_selector(".omni-player[data-playing=true]")
    assert page.locator("body.omni-busy").count() == 1
    page.wait_for_function("Number(document.querySelector('.omni-player').dataset.loudest) > 0.1")
    done(page)
    page.wait_for_selector(".omni-player[data-playing=false]")


def test_what_is_made_can_be_seen_played_and_downloaded(page: Page, server, tmp_path: Path):
    ask(page, "everything")
    page.wait_for_selector(".omni-preview img")
    done(page)
    page.wait_for_function("document.querySelector('article video').videoWidth > 0")
    page.wait_for_function("document.querySelector('article audio').duration > 1.9")
    expect(page.locator("article img")).to_have_attribute("alt", "a white square on green")
    starts = {"png": b"\x89PNG", "wav": b"RIFF", "mp4": b"ftyp"}
    for link in page.locator("article a[download]").all():
        with page.expect_download() as kept:
            link.click()
        written = Path(unquote(link.get_attribute("href").partition("file=")[2]))
        assert kept.value.path().read_bytes() == written.read_bytes()
        assert server.verdict(kept.value.path()) == "Trusted"
        assert starts.pop(written.suffix[1:]) in written.read_bytes()[:12]
        assert kept.value.suggested_filename == written.name
    assert not starts


def test_stop_silences_at_once_and_keeps_what_was_said(page: Page):
    ask(page, "slow")
    page.wait_for_selector(".omni-player[data-playing=true]")
    page.click("#omni-stop")
    assert page.locator(".omni-player").get_attribute("data-playing") == "false"  # before the server knows of it
    expect(page.locator(".omni-stopped")).to_have_text("Stopped")
    expect(page.locator(REPLY)).to_contain_text("word1")
    ask(page, "and now")
    done(page)
    expect(page.locator(REPLY).last).to_contain_text("You said: and now")


def test_escape_stops_too(page: Page):
    ask(page, "slow")
    page.wait_for_selector(f"{REPLY} .omni-words")
    page.keyboard.press("Escape")
    page.wait_for_selector(".omni-status[data-state=stopped]")


def test_a_new_message_ends_the_reply_before_it(page: Page):
    ask(page, "slow")
    page.wait_for_selector(f"{REPLY} .omni-words")
    ask(page, "something else")
    done(page)
    expect(page.locator(REPLY).last).to_contain_text("You said: something else")
    assert page.locator(".omni-stopped").count() == 1


def test_new_chat_ends_the_reply_and_forgets(page: Page, server):
    ask(page, "long")
    page.wait_for_selector(f"{REPLY} .omni-words")
    page.click("#omni-fresh")
    page.wait_for_selector(".omni-welcome")
    ask(page, "hello")
    done(page)
    expect(page.locator("article")).to_have_count(2)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [("please fail", "The model ran out of memory; try a shorter message."), ("please break", "nothing was lost")],
)
def test_a_failure_is_a_sentence_and_leaves_everything_as_it_was(page: Page, words: str, sentence: str):
    ask(page, "before")
    done(page)
    ask(page, words)
    page.wait_for_selector(".omni-status[data-state=failed]")
    expect(page.locator(".omni-status")).to_contain_text(sentence)
    expect(page.locator("#omni-words textarea")).to_have_value(words)
    expect(page.locator("article")).to_have_count(2)
    assert "Traceback" not in page.content() and "ZeroDivision" not in page.content()
    ask(page, "after")
    done(page)
    expect(page.locator("article")).to_have_count(4)


def test_edit_answers_from_there(page: Page):
    for words in ("first", "second"):
        ask(page, words)
        expect(page.locator(REPLY).last).to_contain_text(f"You said: {words}. It went well.")
        done(page)
    page.locator("article").first.hover()
    page.locator("[title=Edit]").first.click()
    page.locator(".omni-edit textarea").fill("changed")
    page.keyboard.press("Enter")
    expect(page.locator("article")).to_have_count(2)
    expect(page.locator(REPLY)).to_contain_text("You said: changed. It went well.")
    done(page)
    expect(page.locator(".omni-versions")).to_contain_text("2 / 2")
    page.click("[title='Version before']")
    expect(page.locator("article")).to_have_count(4)
    expect(page.locator(REPLY).last).to_contain_text("You said: second. It went well.")
    page.click("[title='Next version']")
    expect(page.locator("article")).to_have_count(2)


def test_again_and_undo_and_new_chat(page: Page):
    ask(page, "hello")
    done(page)
    page.click("[title='Try again']")
    page.wait_for_selector("body.omni-busy")
    page.wait_for_selector("body:not(.omni-busy)")
    expect(page.locator("article")).to_have_count(2)
    page.click("[title=Undo]")
    expect(page.locator("article")).to_have_count(0)
    expect(page.locator("#omni-words textarea")).to_have_value("hello")
    page.click("#omni-fresh")
    expect(page.locator("#omni-words textarea")).to_have_value("")


def test_the_same_question_is_answered_in_another_output(page: Page):
    ask(page, "hello")
    done(page)
    page.click("[title='Try again as …']")
    page.locator(".omni-menu").get_by_role("button", name="Picture").click()
    page.wait_for_selector(f"{REPLY} img")
    done(page)
    expect(page.get_by_label("As asked")).to_be_checked()
    page.click("[title='Version before']")
    expect(page.locator(f"{REPLY} img")).to_have_count(0)
    expect(page.locator(REPLY)).to_contain_text("You said: hello.")


def test_a_reply_is_liked_and_disliked_with_the_keyboard(page: Page):
    for words in ("first", "second"):
        ask(page, words)
        expect(page.locator(REPLY).last).to_contain_text(f"You said: {words}. It went well.")
        done(page)
    reply = page.locator(REPLY).first
    good, bad = (reply.get_by_role("button", name=name) for name in ("Good reply", "Bad reply"))
    good.focus()
    page.keyboard.press("Enter")
    expect(good).to_have_attribute("aria-pressed", "true")
    expect(good).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(bad).to_have_attribute("aria-pressed", "true")
    expect(good).to_have_attribute("aria-pressed", "false")
    expect(page.locator(REPLY).last.locator("[aria-pressed=true]")).to_have_count(0)
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "false")


def test_wishes_reach_the_engine(page: Page):
    page.get_by_label("Picture", exact=True).check()
    expect(page.get_by_label("As asked")).not_to_be_checked()
    ask(page, "anything")
    done(page)
    assert page.locator(f"{REPLY} .omni-words").count() == 0
    expect(page.locator(f"{REPLY} img")).to_have_count(1)


def test_a_suggestion_is_sent_with_one_click(page: Page):
    page.get_by_role("button", name="who are you?").click()
    done(page)
    expect(page.locator(REPLY)).to_contain_text("You said: who are you?")


def test_a_visitor_who_leaves_is_forgotten(page: Page, browser, server):
    there = set((server.root / "conversations").iterdir())
    context = browser.new_context()
    other = context.new_page()
    other.goto(server.address)
    other.wait_for_selector(".omni-welcome")
    ask(other, "draw")
    done(other)
    (folder,) = set((server.root / "conversations").iterdir()) - there
    assert [file.suffix for file in folder.iterdir()] == [".png"]
    context.close()
    while folder.exists():  # Gradio looks every second; the test run's own limit ends a wait in vain
        page.wait_for_timeout(100)


def test_a_second_visitor_is_told_to_wait(page: Page, browser, server):
    ask(page, "slow")
    page.wait_for_selector(f"{REPLY} .omni-words")
    context = browser.new_context()
    other = context.new_page()
    other.goto(server.address)
    other.wait_for_selector(".omni-welcome")
    ask(other, "me too")
    expect(other.locator(".omni-status")).to_contain_text("Waiting: number 1 of 1 in the queue")
    page.click("#omni-stop")
    done(other)
    context.close()


@pytest.mark.parametrize("view", [{"width": 390, "height": 844}], indirect=True)
def test_a_new_chat_begins_at_its_top(page: Page):
    ask(page, "everything")
    done(page)
    assert page.evaluate("document.querySelector('.omni-scroller').scrollTop") > 0
    page.click("#omni-fresh")
    expect(page.locator(".omni-welcome h1")).to_be_in_viewport()


@pytest.mark.parametrize("view", [{"width": 390, "height": 844}], indirect=True)
def test_a_phone_needs_no_sideways_scrolling(page: Page):
    for step in (lambda: None, lambda: (ask(page, "everything " + "wide" * 40), done(page))):
        step()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(SIDEWAYS) == 0
    for control in ("#omni-send", "[title='Attach files']", "[title='Record your voice']", "#omni-fresh"):
        box = page.locator(control).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844
