"""Servers in processes of their own, started and ended by the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
START_SECONDS = 120  # a loaded machine takes long to import torch


@contextmanager
def running(command: Callable[[int], list[str]], log: Path, ready: str = "/", **environment: str) -> Iterator[str]:
    """A server that ``command`` starts on the port it is given; yields its address when ``ready`` answers there."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    variables = {**os.environ, **environment}
    with log.open("wb") as sink, subprocess.Popen(command(port), env=variables, stdout=sink, stderr=sink) as process:
        try:
            wait_for(address + ready, process, log)
            yield address
        finally:
            process.terminate()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    """Return when the server answers; fail with its log when it ended or took too long."""
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            process.poll()
            time.sleep(0.2)
    pytest.fail(f"The server did not start:\n{log.read_text()}")
