"""Chromium with files for a microphone and a camera, and a visit to the page with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from omni.bench.browser import FLAGS as COMMON

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

FLAGS = (*COMMON, "--disable-background-networking", "--disable-component-update", "--disable-sync")
PATIENCE = 20_000  # milliseconds that one step of the page may take on a loaded machine


def launch(driver: playwright.Playwright, sound: Path | str, camera: Path) -> playwright.Browser:
    """Chromium with files for devices; where there is none the test is skipped, and under CI it fails."""
    path = find_browser(driver)
    if path is None:
        reason = "no Chromium could be found; `make browser` installs one"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    devices = [f"--use-file-for-fake-audio-capture={sound}", f"--use-file-for-fake-video-capture={camera}"]
    return driver.chromium.launch(executable_path=path, args=[*FLAGS, *devices])


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
    """A second of solid (220, 20, 20) at 320x240."""
    return still(path, Image.new("RGB", (320, 240), (220, 20, 20)))


def still(path: Path, picture: Image.Image) -> Path:
    """A second of one picture with even sides, as raw frames for a camera: brightness, then two planes of colour."""
    brightness, *colours = picture.convert("YCbCr").split()
    small = [plane.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX) for plane in colours]
    planes = b"".join(plane.tobytes() for plane in (brightness, *small))
    head = f"YUV4MPEG2 W{picture.width} H{picture.height} F10:1 Ip A1:1 C420jpeg\n".encode()
    path.write_bytes(head + (b"FRAME\n" + planes) * 10)
    return path


def visit(
    browser: playwright.Browser, address: str, view: dict, locale: str = "en-US", **options
) -> Iterator[playwright.Page]:
    """The page in a context of its own; ``options`` are more of playwright's for it."""
    allowed = ["microphone", "camera", "clipboard-write"]
    context = browser.new_context(viewport=view, locale=locale, permissions=allowed, **options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector(".omni-welcome")
    yield page
    context.close()
    assert not complaints, complaints


def barriers(page: playwright.Page) -> list[tuple[str, str]]:
    """What axe-core calls serious or critical in all that is in sight: each rule, and the first that breaks it."""
    found = axe.Axe().run(page).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
