"""A real browser with a microphone that hums 440 Hz and a camera that sees red."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import hum, launch, playwright, red, visit


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a browser test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def driver() -> Iterator[playwright.Playwright]:
    with playwright.sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def browser(driver: playwright.Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[playwright.Browser]:
    """Chromium with a microphone that hums and a camera that sees red."""
    devices = tmp_path_factory.mktemp("devices")
    browser = launch(driver, hum(devices / "hum.wav"), red(devices / "red.y4m"))
    yield browser
    browser.close()


@pytest.fixture
def view(request: pytest.FixtureRequest) -> dict:
    """The window of the test; parametrise it for another."""
    return getattr(request, "param", {"width": 1200, "height": 850})


@pytest.fixture
def page(browser: playwright.Browser, server, view: dict) -> Iterator[playwright.Page]:
    """The page, opened by a new visitor; a message on the console's error channel fails the test."""
    yield from visit(browser, server.address, view)
