"""The main job on the shipped model: talk, show and listen to Primer in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import launch, red, visit
from playwright.sync_api import Page, expect
from test_chat import REPLY, ask, done

from omni.engines.primer import WEIGHTS
from omni.primer.shipping import FILE

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = "#omni-composer > input[type=file]"

pytestmark = [
    pytest.mark.parametrize("server", ["primer"], indirect=True),
    pytest.mark.skipif(not (WEIGHTS / FILE).exists(), reason="no weights are shipped yet"),
]


@pytest.fixture
def asking(driver, server, view, tmp_path: Path) -> Iterator[Page]:
    """The page in a browser whose microphone says "what do you see"."""
    browser = launch(driver, f"{EXAMPLES / 'question.wav'}%noloop", red(tmp_path / "red.y4m"))
    yield from visit(browser, server.address, view)
    browser.close()


def test_a_picture_is_drawn_from_words(page: Page):
    ask(page, "draw a cat above a rocket on green")  # in 0.3 s, often before a preview of it is in view
    done(page)
    expect(page.locator(REPLY)).to_contain_text(re.compile("Here is a .+ on green"))
    page.wait_for_function("document.querySelector('article img').naturalWidth == 256")


def test_a_question_by_microphone_about_a_picture_is_answered_aloud(asking: Page):
    asking.set_input_files(FILES, [EXAMPLES / "cat.png"])
    asking.wait_for_selector(".omni-chip-image")
    asking.click("[title='Record your voice']")
    expect(asking.locator(".omni-recorder time")).to_have_text("0:01")
    asking.get_by_role("button", name="Done").click()
    asking.wait_for_selector(".omni-chip-audio")
    asking.click("#omni-send")
    asking.wait_for_function("Number(document.querySelector('.omni-player').dataset.loudest) > 0.05")
    done(asking)
    expect(asking.locator(REPLY)).to_contain_text(re.compile(r"\w+ \w+"))
    asking.wait_for_function("document.querySelector('article[data-role=assistant] audio').duration > 0.3")


def test_a_clip_that_is_sent_is_described(page: Page):
    page.set_input_files(FILES, [EXAMPLES / "clip.mp4"])
    page.wait_for_selector(".omni-chip-video")
    ask(page, "what moves?")
    done(page)
    expect(page.locator(REPLY)).to_contain_text(re.compile(r"(moves|bounces|spins|grows|meet)"))


def test_a_clip_that_is_asked_for_plays(page: Page):
    ask(page, "make a clip of a red ball that bounces on white")
    done(page)
    page.wait_for_function("document.querySelector('article video').videoWidth > 0")
    page.wait_for_function("Math.abs(document.querySelector('article video').duration - 2) < 0.3")


def test_what_lies_outside_the_book_is_not_made_up(page: Page):
    ask(page, "what is the capital of france?")
    done(page)
    expect(page.locator(REPLY)).to_contain_text("I do not know that yet.")
