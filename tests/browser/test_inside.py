"""The inside of the last reply, on the shipped model: experts and tokens, memory, stages, costs, and who sees what."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from browsing import barriers, visit
from playwright.sync_api import Page, expect
from test_chat import SIDEWAYS, ask, done

from omni.engines.primer import WEIGHTS
from omni.primer.shipping import FILE

VIEWS = [{"width": 1440, "height": 900}, {"width": 390, "height": 844}]
TOKENS = ".omni-strip i"
READOUT = ".omni-readout"

pytestmark = [
    pytest.mark.parametrize("server", ["primer"], indirect=True),
    pytest.mark.skipif(not (WEIGHTS / FILE).exists(), reason="no weights are shipped yet"),
]


def look(page: Page) -> None:
    page.get_by_role("tab", name="Inside").click()
    page.wait_for_selector(".omni-card")


def asked(page: Page, words: str) -> None:
    """A question and its whole reply, then the inside of it."""
    ask(page, words)
    done(page)
    look(page)
    page.wait_for_selector(TOKENS)


def saved(page: Page) -> dict:
    with page.expect_download() as kept:
        page.get_by_role("button", name="Save as JSON").click()
    assert kept.value.suggested_filename == "omni-inside.json"
    return json.loads(kept.value.path().read_text())


def test_each_token_of_the_reply_shows_its_experts(page: Page):
    asked(page, "draw a cat on green")
    kinds = Counter(one.get_attribute("data-kind") for one in page.locator(TOKENS).all())
    assert kinds["image"] == 64
    word = page.locator(".omni-strip .omni-piece[data-kind=text]").first
    word.hover()
    expect(page.locator(READOUT)).to_contain_text(f"“{word.inner_text().strip()}” (text): layer 1: ")
    expect(page.locator(".omni-chosen")).to_have_count(1)
    page.locator(".omni-strip").focus()
    page.keyboard.press("Home")
    expect(page.locator(READOUT)).to_contain_text("Token 1 of")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".omni-strip")).to_have_attribute("aria-valuenow", "2")
    page.keyboard.press("End")
    expect(page.locator(READOUT)).to_contain_text("nothing came after it")


def test_an_expert_shows_its_tokens_and_a_modality_can_be_left_out(page: Page):
    asked(page, "draw a cat on green")
    pixels = "document.querySelector('.omni-maps canvas').toDataURL()"
    whole = page.evaluate(pixels)
    page.get_by_role("button", name="Picture", exact=True).click()
    assert page.evaluate(pixels) != whole
    page.get_by_role("button", name="Picture", exact=True).click()
    assert page.evaluate(pixels) == whole
    page.get_by_role("button", name="Question").click()
    assert page.evaluate(pixels) != whole
    page.get_by_role("button", name="Reply").click()
    page.locator(".omni-maps canvas").hover(position={"x": 200, "y": 60})
    expect(page.locator(READOUT)).to_contain_text("Layer 2, expert")
    told = int(page.locator(READOUT).inner_text().split(": ")[1].split(" ")[0])
    assert page.locator(".omni-through").count() == told


def test_what_is_saved_agrees_with_what_the_reply_took(page: Page):
    asked(page, "draw a cat on green")
    kept = saved(page)
    usage, tokens = kept["turn"]["usage"], kept["tokens"]
    counts = Counter(token["kind"] for token in tokens)
    assert {kind: counts[kind] for kind in usage["tokens_out"]} == usage["tokens_out"]
    shape = kept["pools"]["experts"]
    for token in tokens:
        if token["experts"] is not None:
            assert len(token["experts"]) == shape["layers"]
            assert all(
                len(set(one)) == shape["k"] and 0 <= min(one) <= max(one) < shape["experts"] for one in token["experts"]
            )
    assert tokens[-1]["experts"] is None
    read = sum(sum(map(sum, counted)) for counted in kept["read"]["experts"].values())
    assert read == sum(usage["tokens_in"].values()) * shape["layers"] * shape["k"]
    assert "".join(token["piece"] for token in tokens if token["kind"] == "text").strip().startswith("Here is")
    assert kept["question"] == "draw a cat on green"
    assert kept["memory"]["everything"] > kept["memory"]["least"] > 0
    assert kept["card"]["name"] == "Primer"


def test_the_stages_of_the_turn_stand_one_below_the_other(page: Page):
    asked(page, "draw a cat on green")
    names = [row.inner_text().split("\n")[0] for row in page.locator(".omni-waterfall li").all()]
    assert names == ["Waiting", "Taking in", "Prefill", "Text", "Picture", "Files"]
    bars = [bar.bounding_box() for bar in page.locator(".omni-waterfall b").all()]
    lefts = [bar["x"] for bar in bars]
    assert lefts == sorted(lefts)
    text, picture = bars[3], bars[4]
    assert abs(text["x"] + text["width"] - picture["x"]) < 4  # the picture begins where the words end
    expect(page.locator(".omni-turn")).to_contain_text("64 picture")


def test_memory_is_changed_while_a_reply_is_made_and_it_goes_on(page: Page):
    ask(page, "make a clip of a ball that bounces")
    look(page)
    page.wait_for_selector(f"{TOKENS}[data-kind=video]")
    page.get_by_role("button", name="Least").click()
    expect(page.locator(".omni-memory .omni-figure")).to_contain_text("2 of 40 experts")
    page.wait_for_selector(".omni-turn[data-state=done]")
    expect(page.locator(".omni-memory .omni-change").first).to_be_attached()
    turn = saved(page)["turn"]
    budgets = [row[7] for row in turn["pace"].values()]
    assert budgets[-1] < budgets[0]
    assert turn["usage"]["experts_fetched"] > 40
    expect(page.locator(".omni-residents figcaption")).to_contain_text("2 of 40 experts")
    page.locator(".omni-memory input[type=range]").focus()
    page.keyboard.press("End")
    expect(page.locator(".omni-memory .omni-figure")).to_contain_text("40 of 40 experts")


def test_prices_are_the_visitors_own_and_stay_in_the_browser(page: Page, server):
    asked(page, "draw a cat on green")
    total = page.locator(".omni-cost .omni-figure")
    expect(total).to_contain_text("0.040")
    page.get_by_label("Price of pictures made for one picture").fill("2")
    expect(total).to_contain_text("2.000")
    page.goto(server.address)
    page.wait_for_selector(".omni-welcome")
    look(page)
    page.get_by_role("button", name="All prices").click()
    expect(page.get_by_label("Price of pictures made for one picture")).to_have_value("2")


def test_another_visitor_sees_nothing_of_it(page: Page, browser, server, view: dict):
    asked(page, "draw a cat on green")
    for other in visit(browser, server.address, view):
        look(other)
        expect(other.locator(".omni-asked")).to_contain_text("Ask something in the chat")
        assert other.locator(TOKENS).count() == 0
        assert "cat" not in other.locator("#omni-inside").inner_text()


def test_a_new_chat_forgets_and_a_stop_keeps_what_was_seen(page: Page):
    ask(page, "make a clip of a ball that bounces")
    page.wait_for_selector(".omni-preview img")
    page.click("#omni-stop")
    look(page)
    expect(page.locator(".omni-turn")).to_contain_text("stopped before its end")
    page.wait_for_selector(TOKENS)
    page.get_by_role("tab", name="Chat").click()
    page.click("#omni-fresh")
    look(page)
    expect(page.locator(".omni-asked")).to_have_text(
        "Ask something in the chat: here you see what happened inside while it was answered."
    )
    expect(page.locator(TOKENS)).to_have_count(0)
    expect(page.locator(".omni-turn")).to_contain_text("No reply yet")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", VIEWS, indirect=True, ids=["wide", "phone"])
def test_everything_fits_and_can_be_read(page: Page, server, dark: bool, view: dict):
    page.goto(f"{server.address}?__theme={'dark' if dark else 'light'}")
    page.wait_for_selector(".omni-welcome")
    asked(page, "draw a cat on green")
    assert page.evaluate(SIDEWAYS) == 0
    assert page.evaluate("document.body.classList.contains('dark')") is dark
    for panel in page.locator("#omni-inside > *").all():
        box = panel.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= view["width"]
    assert barriers(page) == []
