"""Everything that a visitor can put into a message arrives as what it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from media_files import pdf_bytes
from playwright.sync_api import Page, expect
from test_chat import REPLY, ask, done


def told(page: Page) -> list[int]:
    """The numbers in the reply."""
    return [int(number) for number in re.findall(r"\d+", page.locator(REPLY).last.inner_text())]


def test_a_recorded_voice_keeps_its_pitch(page: Page):
    page.click("[title='Record your voice']")
    expect(page.locator(".omni-recorder time")).to_have_text("0:01")
    page.get_by_role("button", name="Done").click()
    page.wait_for_selector(".omni-chip-audio")
    page.click("#omni-send")
    done(page)
    assert abs(told(page)[0] - 440) <= 5
    expect(page.locator("article[data-role=user] figcaption")).to_have_text("a hum")


def test_a_photo_keeps_its_colour(page: Page):
    page.click("[title='Photo or clip from the camera']")
    page.get_by_role("button", name="Take photo").click()
    page.wait_for_selector(".omni-chip-image")
    page.click("#omni-send")
    done(page)
    red, green, blue = told(page)[:3]
    assert red > 190 and green < 60 and blue < 60


def test_a_clip_from_the_camera_arrives(page: Page):
    page.click("[title='Photo or clip from the camera']")
    page.get_by_role("button", name="Record clip").click()
    page.get_by_role("button", name=re.compile("Stop 0:01")).click()
    page.wait_for_selector(".omni-chip-video")
    page.click("#omni-send")
    done(page)
    width, height = told(page)[:2]
    assert (width, height) == (320, 240)


def test_several_files_travel_in_one_message(page: Page, samples: Path):
    page.set_input_files("#omni-composer > input[type=file]", [samples / "blue.png", samples / "tone.wav"])
    expect(page.locator(".omni-chip")).to_have_count(2)
    page.set_input_files("#omni-composer > input[type=file]", [samples / "grey.mp4"])
    expect(page.locator(".omni-chip")).to_have_count(3)
    ask(page, "what is this?")
    done(page)
    reply = page.locator(REPLY)
    expect(reply).to_contain_text("a picture of 20 40 220 and a sound of 523 Hz and a clip of 96x64, 2.0 s")
    expect(page.locator("article[data-role=user] figure")).to_have_count(3)
    expect(page.locator(".omni-chip")).to_have_count(0)


def test_what_is_attached_during_a_reply_is_sent_with_the_next_message(page: Page, samples: Path):
    ask(page, "slow")
    page.wait_for_selector(f"{REPLY} .omni-words")
    page.set_input_files("#omni-composer > input[type=file]", [samples / "blue.png"])
    page.wait_for_selector(".omni-chip")
    ask(page, "and this?")
    done(page)
    expect(page.locator(REPLY).last).to_contain_text("a picture of 20 40 220")


def test_an_attached_thing_can_be_removed(page: Page, samples: Path):
    page.set_input_files("#omni-composer > input[type=file]", [samples / "blue.png"])
    page.click(".omni-chip button")
    expect(page.locator(".omni-chip")).to_have_count(0)


def test_a_file_that_is_no_picture_is_refused_in_a_sentence(page: Page, tmp_path: Path):
    false = tmp_path / "false.png"
    false.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    page.set_input_files("#omni-composer > input[type=file]", [false])
    page.wait_for_selector(".omni-status[data-state=failed]")
    assert page.locator(".omni-chip").count() == 0


@pytest.mark.parametrize(
    ("error", "sentence"), [("NotAllowedError", "does not allow"), ("NotFoundError", "No microphone was found")]
)
def test_a_missing_microphone_is_said(page: Page, error: str, sentence: str):
    page.evaluate(
        "(name) => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', name)); }", error
    )
    page.click("[title='Record your voice']")
    expect(page.locator(".omni-notice")).to_contain_text(sentence)


def test_a_document_is_attached_read_and_shown(page: Page, tmp_path: Path):
    (tmp_path / "report.pdf").write_bytes(pdf_bytes("the word is xylophone", ""))
    page.set_input_files("#omni-composer > input[type=file]", [tmp_path / "report.pdf"])
    chip = page.locator(".omni-chip")
    expect(chip).to_have_count(1)
    expect(chip).to_contain_text("report.pdf · 44 characters · 2 pages as pictures")
    ask(page, "which word?")
    done(page)
    expect(page.locator(REPLY)).to_contain_text("a document ending in xylophone and a picture of")
    sent = page.locator("article[data-role=user] .omni-document")
    expect(sent.locator("img")).to_have_count(2)
    expect(sent.locator("pre")).to_be_hidden()
    sent.locator("summary").click()
    expect(sent.locator("pre")).to_have_text("report.pdf (2 pages):\n\nthe word is xylophone")
    expect(page.locator("article[data-role=user] .omni-words")).to_have_text("which word?")
    page.click("[title=Undo]")
    expect(chip).to_have_count(1)
    page.click(".omni-chip button")
    expect(chip).to_have_count(0)


def test_a_document_that_was_cut_or_cannot_be_read_is_said(page: Page, tmp_path: Path):
    offered = {
        "long.txt": (b"word " * 10_000, "Only the beginning of long.txt was taken, 2,048 characters."),
        "locked.pdf": (pdf_bytes("x", locked=True), "locked with a password"),
        "odd.csv": ("Grüße".encode("latin-1"), "save it in UTF-8"),
        "letter.docx": (b"PK\3\4", "none of the kinds that can be read here"),
    }
    for name, (data, sentence) in offered.items():
        (tmp_path / name).write_bytes(data)
        page.set_input_files("#omni-composer > input[type=file]", [tmp_path / name])
        expect(page.locator(".omni-status")).to_contain_text(sentence)
    expect(page.locator(".omni-chip")).to_have_count(1)


def test_a_document_can_be_dropped_and_a_long_text_pasted(page: Page):
    page.evaluate("""() => {
        const dropped = new DataTransfer();
        dropped.items.add(new File(["a,b"], "table.csv", { type: "text/csv" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
    }""")
    expect(page.locator(".omni-chip")).to_contain_text("table.csv")
    page.evaluate("""() => {
        const pasted = new DataTransfer();
        pasted.setData("text/plain", "word ".repeat(3000));
        document.querySelector("#omni-words textarea").dispatchEvent(
            new ClipboardEvent("paste", { clipboardData: pasted, bubbles: true, cancelable: true }));
    }""")
    expect(page.locator(".omni-chip")).to_have_count(2)
    expect(page.locator(".omni-chip").last).to_contain_text("pasted.txt")
    expect(page.locator("#omni-words textarea")).to_have_value("")
