"""``make bench-page``: how soon the page can be used, what it takes while nothing happens, and in a long conversation.

A real browser opens the page with Primer. The work of a turn is what the page's main thread does for it: script, style
and layout, as the browser counts them. Painting is left out, which the GPU does elsewhere; so is waiting for the model.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from PIL import Image as Pillow

from omni.bench.__main__ import RESULTS
from omni.bench.browser import chromium, serving
from omni.conversation import Conversation, Image, Message, Part, Text
from omni.figures import ROOT, Row, machine, write_rows
from omni.media import bundle

log = logging.getLogger(__name__)

LONG = 99  # turns before those that are looked at
PICTURES = 50  # of the replies before them come with one
ASKED = "draw a cat on blue", "what colour is it", "how many cats are there", "what is two plus three", "hello"
WORK = "Script", "RecalcStyle", "Layout"
SETTLED, IDLE = 10.0, 30.0  # seconds after opening, and those of a look
LOOKS = 3  # the median counts
STRETCHES = """window.stretches = [];
new PerformanceObserver((seen) => seen.getEntries().forEach((one) => window.stretches.push(one.duration)))
  .observe({ type: "longtask" });"""
GOALS = {  # unit, goal
    "interactive_s": ("s", 3.0),
    "idle_blank": ("% of a core", None),
    "idle_page": ("% of a core", 1.0),
    "idle_server": ("% of a core", None),
    "turn_1_ms": ("ms", None),
    "turn_100_ms": ("ms", 100.0),
    "turn_100_longest_ms": ("ms", None),
}


def long_conversation(folder: Path) -> Path:
    """A saved conversation of LONG turns, about half of them with a picture."""
    cat = ROOT / "examples" / "cat.png"
    with Pillow.open(cat) as picture:
        size = picture.size
    messages: list[Message] = []
    for turn in range(LONG):
        reply: list[Part] = [Text("Here is a cat on blue.")]
        if turn % 2 == 0 and turn < 2 * PICTURES:
            reply.append(Image(Path(f"picture-{turn}.png"), *size, caption="Here is a cat on blue."))
        messages += [Message("user", (Text(f"draw a cat on blue, number {turn}"),)), Message("assistant", tuple(reply))]
    file = folder / "long.zip"
    with zipfile.ZipFile(file, "w") as saved:
        saved.writestr(bundle.NAME, bundle.description(Conversation(folder, tuple(messages))))
        for part in (part for message in messages for part in message.parts if isinstance(part, Image)):
            saved.write(cat, part.path.name)
    return file


class Visit:
    """One visitor's page. State: the page, and the browser's count of what its main thread did."""

    def __init__(self, browser, address: str):
        self.page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        self.clock = self.page.context.new_cdp_session(self.page)
        self.clock.send("Performance.enable")
        self.page.add_init_script(STRETCHES)
        started = time.perf_counter()
        self.page.goto(address, wait_until="commit")
        self.page.wait_for_selector("#omni-words textarea:enabled")
        self.page.locator("#omni-words textarea").fill("hello")
        self.page.wait_for_selector("#omni-send:enabled")
        self.interactive = time.perf_counter() - started
        self.page.locator("#omni-words textarea").fill("")

    def work(self) -> float:
        """Milliseconds of script, style and layout so far."""
        metrics = {one["name"]: one["value"] for one in self.clock.send("Performance.getMetrics")["metrics"]}
        return 1000 * sum(metrics[f"{kind}Duration"] for kind in WORK)

    def longest(self) -> float:
        """Milliseconds of the longest task of the main thread since ``stretches`` was emptied, painting included."""
        return self.page.evaluate("Math.max(0, ...window.stretches)")

    def open(self, file: Path) -> None:
        """Take up a saved conversation."""
        self.page.locator("#omni-more .toggle-button").click()
        self.page.locator("#omni-keep input[type=file]").set_input_files(file)
        self._wait(f"document.querySelectorAll('article').length === {2 * LONG}")
        self.page.locator("#omni-more .toggle-button").click()
        self.page.wait_for_timeout(2000)

    def _wait(self, condition: str) -> None:
        """Until it holds; looked at rarely, for to look at every frame is work of its own."""
        self.page.wait_for_function(condition, polling=250)

    def turn(self, words: str) -> float:
        """Milliseconds that the main thread works for a question and its reply."""
        before = self.work()
        asked = self.page.locator("article").count()
        self.page.locator("#omni-words textarea").fill(words)
        self.page.keyboard.press("Enter")
        self._wait(
            f"document.querySelectorAll('article').length === {asked + 2}"
            " && !document.body.classList.contains('omni-busy')"
        )
        self.page.wait_for_timeout(700)  # what the end of a turn brings along: Inside, the stored chat
        return self.work() - before


def spent(process: psutil.Process) -> float:
    """Seconds of processor that a process and its children have taken."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def idle(process: psutil.Process) -> float:
    """Per cent of a core that a process and its children take while nothing happens."""
    before = spent(process)
    time.sleep(IDLE)
    return 100 * (spent(process) - before) / IDLE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openings", type=int, default=5, help="visitors who open the page; the median counts")
    parser.add_argument("--out", type=Path, default=RESULTS / "page.json")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.info("load before: %s on %d cores", " ".join(f"{one:.2f}" for one in os.getloadavg()), os.cpu_count())
    found: dict[str, list[float]] = {name: [] for name in GOALS}
    with serving("app.py") as (address, server), chromium() as browser, tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.openings):
            visit = Visit(browser, address)
            found["interactive_s"].append(visit.interactive)
            visit.page.context.close()
        blank = browser.new_page()  # the browser itself, with nothing to show
        time.sleep(SETTLED)
        found["idle_blank"] = [idle(browser_of(psutil.Process())) for _ in range(LOOKS)]
        blank.close()
        visit = Visit(browser, address)
        visit.turn("hello")  # the first reply of a process warms it up
        time.sleep(SETTLED)
        with ThreadPoolExecutor() as both:
            for _ in range(LOOKS):
                looks = [both.submit(idle, one) for one in (browser_of(psutil.Process()), server)]
                for name, look in zip(("idle_page", "idle_server"), looks, strict=True):
                    found[name].append(look.result())
        found["turn_1_ms"] = [visit.turn(words) for words in ASKED]
        visit.open(long_conversation(Path(folder)))
        visit.turn(ASKED[0])
        visit.page.evaluate("window.stretches.length = 0")
        found["turn_100_ms"] = [visit.turn(words) for words in ASKED]
        found["turn_100_longest_ms"] = [visit.longest()]
    log.info("load after: %s", " ".join(f"{one:.2f}" for one in os.getloadavg()))
    rows = []
    for name, (unit, goal) in GOALS.items():
        value = statistics.median(found[name])
        log.info("%-20s %8.2f %s of %s", name, value, unit, [round(one, 2) for one in found[name]])
        n = len(found[name])
        rows.append(Row(name, round(value, 2), unit, goal, "lower", n, None, None, machine(), "make bench-page"))
    write_rows(arguments.out, rows)


def browser_of(ours: psutil.Process) -> psutil.Process:
    """The browser among our children, behind the driver."""
    return next(one for one in ours.children(recursive=True) if "chrom" in one.name())


if __name__ == "__main__":
    main()
