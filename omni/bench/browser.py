"""The page in a real browser, for the benchmarks: a server in a process of its own, and Chromium."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from omni.figures import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
)


@contextmanager
def serving(*command: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server in a process of its own, ready: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(
        [sys.executable, *command, "--port", str(port), "--root", folder], cwd=ROOT, stdout=subprocess.DEVNULL
    ) as process:  # fmt: skip
        address = f"http://127.0.0.1:{port}/"
        try:
            while True:
                if process.poll() is not None:
                    raise SystemExit(f"The server ended with status {process.returncode}.")
                try:
                    if "gradio" in urllib.request.urlopen(address, timeout=5).read().decode():
                        break
                except OSError:
                    pass
                time.sleep(0.3)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        path = shutil.which("chromium") or shutil.which("google-chrome") or driver.chromium.executable_path
        browser = driver.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        yield browser
        browser.close()
