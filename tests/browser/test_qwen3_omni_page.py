"""Qwen3-Omni in a real browser, with a tiny checkpoint of random weights: its words mean nothing, its ways are true."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

FILES = "#omni-composer > input[type=file]"

pytestmark = pytest.mark.parametrize("server", ["tiny-omni"], indirect=True)


@pytest.fixture
def spoken_to(page: Page, samples: Path) -> Page:
    """The page after a question that was spoken, which is answered aloud, and with this seed at some length."""
    page.get_by_label("Seed").fill("1", force=True)
    page.set_input_files(FILES, [samples / "tone.wav", samples / "blue.png"])
    page.wait_for_selector(".omni-chip-audio")
    page.wait_for_selector(".omni-chip-image")
    page.click("#omni-send")
    return page


def test_speech_is_heard_while_the_words_still_come(spoken_to: Page):
    spoken_to.wait_for_function("Number(document.querySelector('.omni-player').dataset.loudest) > 0.01")
    assert spoken_to.locator("body.omni-busy").count() == 1
    spoken_to.click("#omni-stop")
    expect(spoken_to.locator(".omni-stopped")).to_have_text("Stopped")
    spoken_to.wait_for_function("document.querySelector('article[data-role=assistant] audio').duration > 0.1")


def test_the_page_offers_what_the_checkpoint_can_do(page: Page):
    labels = page.locator("#omni-outputs").text_content()
    assert "peech" in labels
    assert "icture" not in labels
