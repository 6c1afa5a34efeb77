"""The exam tab: between the messages of visitors, with its figures beside stored ones, and stopped at any time."""

from __future__ import annotations

import json
import shutil

import pytest
from browsing import PATIENCE, barriers, playwright, visit
from test_chat import SIDEWAYS, ask, done

from omni.primer.training import voices, world

Page, expect = playwright.Page, playwright.expect

VIEWS = [{"width": 1440, "height": 900}, {"width": 390, "height": 844}]
FIRST = 120_000  # milliseconds for the judges to come in, on a loaded machine
WHOLE = 240_000
EXAM, OWN = ".omni-exam", ".omni-series [data-place='0']"

pytestmark = pytest.mark.skipif(
    not world.FONT.exists() or not voices.available(), reason="the emoji font or espeak-ng is not here"
)


def look(page: Page) -> None:
    page.get_by_role("tab", name="Exam").click()
    page.wait_for_selector(f"{EXAM}:not([data-state=unknown])", timeout=FIRST)


def start(page: Page) -> None:
    """Begin an exam, or go on with one that an earlier test left."""
    page.locator(f"{EXAM} .omni-primary").click()
    page.wait_for_selector(f"{EXAM}[data-state=running]")


def over(page: Page, patience: int = PATIENCE) -> None:
    page.wait_for_selector(f"{EXAM}[data-state=ready]", timeout=patience)


def test_an_exam_can_be_stopped_and_goes_on_while_visitors_are_answered(page: Page, browser, server):
    look(page)
    expect(page.locator(f"{EXAM} .omni-note").last).to_contain_text("questions, asked between the messages")
    start(page)
    expect(page.locator(".omni-exam-told")).to_contain_text("of 17 questions")
    for other in visit(browser, server.address, VIEWS[0]):
        look(other)
        expect(other.locator(EXAM)).to_contain_text("Another exam is on its way")
        other.get_by_role("tab", name="Chat").click()
        ask(other, "hello")
        done(other)
    page.get_by_role("button", name="Stop", exact=True).click()
    over(page)
    start(page)
    over(page, WHOLE)
    expect(page.locator(EXAM)).to_contain_text("All questions are answered.")
    expect(page.locator(OWN)).to_contain_text("this engine")


def test_who_may_not_start_one_is_told_who_could(browser, server):
    headers = {"x-forwarded-for": "10.0.0.7"}  # somebody elsewhere, as a proxy tells
    for other in visit(browser, server.address, VIEWS[1], extra_http_headers=headers):
        look(other)
        expect(other.locator(EXAM)).to_contain_text("may let you start an exam, with --exam-start everyone")
        expect(other.locator(f"{EXAM} button")).to_have_count(0)
        other.locator(".omni-title > button").click()
        expect(other.locator(".omni-lineup")).to_contain_text("with --engine-picker everyone", timeout=FIRST)


def test_the_exam_of_a_page_that_was_closed_ends(browser, server, page: Page):
    for other in visit(browser, server.address, VIEWS[0]):
        look(other)
        start(other)
    look(page)
    for _ in range(20):  # two seconds for the question at hand to end
        if page.locator(f"{EXAM}-failed").count() == 0:
            break
        page.wait_for_timeout(100)
        page.get_by_role("tab", name="Chat").click()
        look(page)
    expect(page.locator(EXAM)).not_to_contain_text("Another exam")


@pytest.mark.parametrize("view", VIEWS, indirect=True)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_stand_side_by_side(page: Page, server, view: dict, scheme: str):
    page.goto(f"{server.address}?__theme={scheme}")
    look(page)
    start(page)
    over(page, WHOLE)
    shipped = page.locator("[data-pick=shipped]")
    expect(shipped).to_have_attribute("aria-pressed", "true")
    caption = page.locator(".omni-marks li").first
    expect(caption.locator(".omni-mark")).to_have_count(2)
    expect(caption).to_contain_text("goal ≥ 92 · chance 0")
    expect(caption.locator(".omni-mark").first).to_contain_text("n 1")
    shipped.click()
    expect(caption.locator(".omni-mark")).to_have_count(1)
    expect(page.locator(".omni-skipped")).to_contain_text("is about Primer's own book or weights")
    assert page.evaluate(SIDEWAYS) == 0
    assert barriers(page) == []


@pytest.mark.parametrize("view", VIEWS, indirect=True)
def test_the_same_questions_are_compared_pair_by_pair(page: Page, server, view: dict):
    look(page)
    start(page)
    over(page, WHOLE)
    exams = server.root / "exams"
    (own,) = (one for one in exams.iterdir() if one.name.startswith("fake-") and "-until-" not in one.name)
    answers = [json.loads(line) for path in own.glob("*.jsonl") for line in path.read_text().splitlines()]
    for path in own.glob("*.jsonl"):  # one question a part is too few: each stands for six
        path.write_text("".join(json.dumps(one | {"index": n}) + "\n" for one in answers for n in range(6)))
        answers = []
    other = shutil.copytree(own, exams / "other-weights", dirs_exist_ok=True)
    about = json.loads((other / "sitting.json").read_text())
    (other / "sitting.json").write_text(json.dumps(about | {"engine": "other"}))
    page.get_by_role("tab", name="Chat").click()
    look(page)
    page.locator("[data-pick=other-weights]").click()
    paired = page.locator(".omni-paired").first
    expect(paired).to_have_text(
        "this engine differs by 0 points · 95% interval 0 to 0 · 6 questions in common · may be chance"
    )
    assert page.evaluate(SIDEWAYS) == 0
    shutil.rmtree(other)


def test_the_report_opens_with_its_pictures_and_is_downloaded(page: Page):
    look(page)
    start(page)
    over(page, WHOLE)
    with page.expect_popup() as opened:
        page.locator(OWN).get_by_role("link", name="Answers").click()
    report = opened.value
    report.locator(".card img").first.wait_for()
    assert report.evaluate("document.querySelector('.card img').naturalWidth") > 0
    with page.expect_download() as kept:
        page.locator(OWN).get_by_role("link", name="Download the report").click()
    assert kept.value.suggested_filename.endswith(".html") and "Exam of fake" in kept.value.path().read_text()
