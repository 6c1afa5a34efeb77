"""The tabs: one header for all, every tab as tall as the window leaves it, on a screen and on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from test_chat import ask, done

VIEWS = [{"width": 1440, "height": 900}, {"width": 390, "height": 844}]


@pytest.mark.parametrize("view", VIEWS, indirect=True)
def test_every_tab_fits_below_the_header(page: Page, view: dict):
    names = page.get_by_role("tab").all_inner_texts()
    assert names[:2] == ["Chat", "Live"]
    for name in names:
        page.get_by_role("tab", name=name).click()
        panel = page.locator(".omni-tab:visible")
        expect(panel).to_have_count(1)
        box = panel.bounding_box()
        assert box["x"] == 0 and box["width"] == view["width"]
        assert box["y"] < 120 and box["y"] + box["height"] == view["height"]
        assert page.evaluate("document.documentElement.scrollWidth") <= view["width"]


@pytest.mark.parametrize(
    "view", [*VIEWS, *({"width": width, "height": 800} for width in (1024, 930, 768))], indirect=True
)
def test_nothing_of_the_header_lies_on_something_else(page: Page, view: dict):
    boxes = [page.locator(one).bounding_box() for one in ("#omni-title", "[role=tablist]", "#omni-fresh")]
    boxes.append(page.locator("#omni-more .toggle-button").bounding_box())
    for index, one in enumerate(boxes):
        assert one["x"] >= 0 and one["x"] + one["width"] <= view["width"]
        for other in boxes[index + 1 :]:
            beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            below = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
            assert beside or below
    assert page.locator(".omni-title > button").evaluate("(name) => name.scrollWidth <= name.clientWidth")


def test_a_reply_goes_on_while_another_tab_is_looked_at(page: Page):
    ask(page, "long")
    page.get_by_role("tab", name="Live").click()
    expect(page.locator("#omni-composer")).not_to_be_visible()
    expect(page.locator("#omni-fresh")).not_to_be_visible()
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator("#omni-composer")).to_be_visible()
    done(page)
    expect(page.locator("article")).to_have_count(2)


def test_a_tab_is_chosen_by_keyboard(page: Page):
    page.get_by_role("tab", name="Live").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Live")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tabpanel")).to_have_attribute("id", "omni-tab-live")


def test_a_page_comes_to_rest(page: Page):
    """What ticks at every frame asks for the time; some does while the page settles, nothing may after that."""
    assert any(asked_for_the_time(page) < 15 for _ in range(8))


def asked_for_the_time(page: Page) -> int:
    """How often the scripts of the page look at the clock within 1.5 s."""
    return page.evaluate("""async () => {
        let count = 0;
        const now = performance.now.bind(performance);
        performance.now = () => { count += 1; return now(); };
        await new Promise((done) => setTimeout(done, 1500));
        performance.now = now;
        return count;
    }""")
