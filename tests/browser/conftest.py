"""A real browser with a microphone that hums 440 Hz and a camera that sees red."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

playwright = pytest.importorskip("playwright.sync_api")

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 20_000  # milliseconds that one step of the page may take on a loaded machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a browser test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[playwright.Browser]:
    """Chromium with fake devices; where there is none the tests are skipped, and under CI they fail."""
    devices = tmp_path_factory.mktemp("devices")
    flags = [
        *FLAGS,
        f"--use-file-for-fake-audio-capture={hum(devices / 'hum.wav')}",
        f"--use-file-for-fake-video-capture={red(devices / 'red.y4m')}",
    ]
    with playwright.sync_playwright() as driver:
        path = find_browser(driver)
        if path is None:
            reason = "no Chromium could be found; `make browser` installs one"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        browser = driver.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


def find_browser(driver: playwright.Playwright) -> str | None:
    """The system's Chromium, else the one that playwright has installed."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    own = driver.chromium.executable_path
    return own if Path(own).exists() else None


def hum(path: Path) -> Path:
    """Two seconds of 440 Hz, which Chromium repeats."""
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * np.arange(96_000) / 48_000), 48_000)
    return path


def red(path: Path) -> Path:
    """A second of solid (220, 20, 20) at 320x240, as raw frames: one brightness and two colour planes each."""
    brightness, blue, other_red = 76, 96, 230
    planes = bytes([brightness]) * (320 * 240) + bytes([blue]) * (160 * 120) + bytes([other_red]) * (160 * 120)
    path.write_bytes(b"YUV4MPEG2 W320 H240 F10:1 Ip A1:1 C420jpeg\n" + (b"FRAME\n" + planes) * 10)
    return path


@pytest.fixture
def view(request: pytest.FixtureRequest) -> dict:
    """The window of the test; parametrise it for another."""
    return getattr(request, "param", {"width": 1200, "height": 850})


@pytest.fixture
def page(browser, server, view) -> Iterator[playwright.Page]:
    """The page, opened by a new visitor; a message on the console's error channel fails the test."""
    context = browser.new_context(viewport=view, permissions=["microphone", "camera", "clipboard-write"])
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(server.address)
    page.wait_for_selector(".omni-welcome")
    yield page
    context.close()
    assert not complaints
