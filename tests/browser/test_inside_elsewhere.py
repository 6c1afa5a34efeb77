"""The inside of an engine that shows nothing of itself: what a reply takes is shown all the same."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from test_chat import ask, done


def test_stages_and_costs_are_shown_and_the_rest_is_named(page: Page):
    ask(page, "good morning")
    done(page)
    page.get_by_role("tab", name="Inside").click()
    expect(page.locator(".omni-turn .omni-figure")).to_contain_text("from asked to done")
    expect(page.locator(".omni-turn")).to_contain_text("21 text")
    expect(page.locator(".omni-memory")).to_contain_text("cannot be seen from here")
    expect(page.locator(".omni-cost")).to_contain_text("21 tokens")
    expect(page.locator(".omni-asked")).to_have_text("good morning")
    expect(page.locator(".omni-maps")).not_to_be_visible()
    expect(page.locator(".omni-card")).to_contain_text("scripted engine")


def test_a_reply_that_failed_leaves_the_tab_at_rest(page: Page):
    ask(page, "please fail")
    page.wait_for_selector(".omni-status[data-state=failed]")
    page.get_by_role("tab", name="Inside").click()
    expect(page.locator(".omni-turn")).to_contain_text("stopped before its end")
    expect(page.locator(".omni-tokens")).to_have_attribute("data-state", "stopped")
