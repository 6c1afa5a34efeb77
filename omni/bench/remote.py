"""What the way over HTTP costs: ``make bench-remote`` writes ``omni/bench/results/remote.json``.

The same questions go to Primer in this process and, by turns, through the remote engine to ``app.py --api`` in another
one on this machine. What is added is the median of the differences of each pair.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from omni.bench.__main__ import RESULTS
from omni.bench.primer import REPLIES
from omni.conversation import Conversation, Message, Text
from omni.engine import Engine, Wish
from omni.engines.primer import PrimerEngine
from omni.engines.remote.engine import RemoteEngine
from omni.events import ClipReady, Finished, ImageReady, SpeechChunk, TextDelta
from omni.figures import ROOT, Row, machine, write_rows

log = logging.getLogger(__name__)

START = 120  # seconds that the server may take to start
FIRSTS = {  # row, the reply that it is measured in, the event that is waited for, goal in milliseconds
    "added_first_text_ms": ("text", TextDelta, 15.0),
    "added_first_speech_ms": ("speech", SpeechChunk, 30.0),
    "added_picture_ms": ("image", ImageReady, None),
    "added_clip_ms": ("video", ClipReady, None),
}


@contextmanager
def server(key: str) -> Iterator[str]:
    """``app.py --api`` in a process of its own; yields the address of its protocol."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as root:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, str(ROOT / "app.py"), "--api", "--port", str(port), "--root", root]
        environment = {**os.environ, "OMNI_API_KEY": key, "OMNI_LOG_LEVEL": "warning"}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=ROOT) as process:
            try:
                _wait_for(f"http://127.0.0.1:{port}/health", process)
                yield f"http://127.0.0.1:{port}/v1"
            finally:
                process.terminate()


def _wait_for(address: str, process: subprocess.Popen) -> None:
    give_up = time.monotonic() + START
    while time.monotonic() < give_up and process.poll() is None:
        try:
            if httpx.get(address).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise SystemExit("The server did not start.")


def seconds_to(engine: Engine, name: str, kind: type, seed: int, folder: Path) -> float:
    """Seconds from the question until the first event of a kind; the reply is heard to its end."""
    words, outputs = REPLIES[name]
    conversation = Conversation(folder, (Message("user", (Text(words),)),))
    started, first, last = time.perf_counter(), None, None
    for last in engine.reply(conversation, Wish(outputs=outputs, seed=seed)):
        if first is None and isinstance(last, kind):
            first = time.perf_counter() - started
    assert isinstance(last, Finished) and first is not None, f"no {kind.__name__} came in a {name} reply"
    return first


def pairs(near: Engine, far: Engine, name: str, kind: type, count: int) -> Iterator[tuple[float, float]]:
    """Seconds of both for the same questions, by turns, each first in every other pair."""
    with tempfile.TemporaryDirectory() as folder:

        def ask(engine: Engine, seed: int) -> float:
            return seconds_to(engine, name, kind, seed, Path(folder))

        for engine in (near, far):
            ask(engine, 0)  # warm-up
        for seed in range(count):
            if seed % 2:
                there = ask(far, seed)
                yield ask(near, seed), there
            else:
                yield ask(near, seed), ask(far, seed)


def measure(repeats: int) -> Iterator[list[Row]]:
    """The rows so far after each kind of reply: what is added, and how long it takes in process."""
    key, rows = secrets.token_urlsafe(16), []
    with server(key) as address:
        near, far = PrimerEngine.open("cpu"), RemoteEngine.open("openai", address, key)
        for row, (name, kind, goal) in FIRSTS.items():
            count = repeats if goal is not None else max(5, repeats // 4)
            taken = list(pairs(near, far, name, kind, count))
            added = statistics.median(there - here for here, there in taken) * 1000
            here = statistics.median(here for here, _ in taken) * 1000
            for label, value, wanted in ((row, added, goal), (row.replace("added", "in_process"), here, None)):
                log.info("%-26s %8.2f ms", label, value)
                command = "make bench-remote"
                rows.append(Row(label, round(value, 2), "ms", wanted, "lower", count, None, None, machine(), command))
            yield rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=40, help="pairs of replies; a quarter of pictures and clips")
    parser.add_argument("--out", type=Path, default=RESULTS / "remote.json")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for chatty in ("httpx", "omni.media"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    log.info("load before: %s on %d cores", " ".join(f"{one:.2f}" for one in os.getloadavg()), os.cpu_count())
    for rows in measure(arguments.repeats):
        write_rows(arguments.out, rows)
    log.info("load after: %s", " ".join(f"{one:.2f}" for one in os.getloadavg()))


if __name__ == "__main__":
    main()
