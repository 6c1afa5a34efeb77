"""``make bench-live``: how soon a spoken question is answered, and how soon speech over a reply silences it.

A real browser with a file for a microphone talks to Primer. Both ends are taken in the browser, beside the page's own
code: the microphone's loudness every 10 ms, and the calls that start and stop the sound of a reply. Beside the live tab
stands the same turn-taking over Gradio's streaming microphone and the chat's player (``live_gradio.py``).
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from omni.bench.__main__ import RESULTS
from omni.bench.browser import chromium, serving
from omni.figures import ROOT, Row, machine, write_rows

log = logging.getLogger(__name__)

RATE = 48_000
FIRST, ROUND, OVER = 3.0, 9.0, 3.0  # seconds: the first question, from one to the next, from a question to what cuts in
CHUNK = 0.05  # seconds of the first speech that Primer hands over
GOAL = 1.0 + CHUNK  # seconds
BARGE_IN = 300.0  # milliseconds
PROBES = """(() => {
  const seen = (window.seen = { loud: [], starts: [], stops: [] });
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await open(wanted);
    const context = new AudioContext();
    const meter = new AnalyserNode(context, { fftSize: 512 });
    context.createMediaStreamSource(stream.clone()).connect(meter);
    const samples = new Float32Array(512);
    setInterval(() => {
      meter.getFloatTimeDomainData(samples);
      if (Math.sqrt(samples.reduce((sum, one) => sum + one * one, 0) / 512) > 0.01) seen.loud.push(performance.now());
    }, 10);
    return stream;
  };
  const { start, stop } = AudioBufferSourceNode.prototype;
  AudioBufferSourceNode.prototype.start = function (when = 0) {
    seen.starts.push(performance.now() + 1000 * Math.max(0, when - this.context.currentTime));
    return start.apply(this, arguments);
  };
  AudioBufferSourceNode.prototype.stop = function () {
    seen.stops.push(performance.now());
    return stop.apply(this, arguments);
  };
})()"""


def microphone(path: Path, rounds: int, *, interrupting: bool) -> Path:
    """A question a round; with ``interrupting`` another one over the reply to it."""
    voices = {name: soundfile.read(ROOT / "examples" / f"{name}.wav") for name in ("question", "request")}
    samples = np.zeros(round((FIRST + ROUND * (rounds + 1)) * RATE), np.float32)
    for turn in range(rounds):
        said = [("question", FIRST + turn * ROUND)]
        if interrupting:
            said.append(("request", FIRST + turn * ROUND + OVER))
        for name, at in said:
            voice, rate = voices[name]
            voice = np.interp(np.arange(0, len(voice), rate / RATE), np.arange(len(voice)), voice)
            samples[round(at * RATE) : round(at * RATE) + len(voice)] = voice
    soundfile.write(path, samples, RATE)
    return path


def talk(address: str, sound: Path, rounds: int, *, live: bool) -> dict[str, list[float]]:
    """What the probes saw, in milliseconds, while the microphone said everything."""
    with chromium(f"--use-file-for-fake-audio-capture={sound}%noloop") as browser:
        page = browser.new_context(permissions=["microphone"]).new_page()
        page.add_init_script(PROBES)
        page.goto(address)
        if live:
            page.get_by_role("tab", name="Live").click()
            page.click(".omni-go")
        else:
            page.click("button.record-button")
        page.wait_for_timeout(1000 * (FIRST + ROUND * rounds))
        return page.evaluate("window.seen")


def utterances(loud: list[float]) -> list[tuple[float, float]]:
    """Beginning and end of everything that was said: pauses of half a second part it."""
    times = np.array(loud)
    breaks = np.flatnonzero(np.diff(times) > 500)
    return list(zip(times[[0, *(breaks + 1)]], times[[*breaks, -1]], strict=True))


def answers(seen: dict[str, list[float]]) -> list[float]:
    """Seconds from the end of each utterance to the first sound after it, where there is one before the next."""
    said, starts = utterances(seen["loud"]), np.array(seen["starts"])
    found = []
    for place, (_, end) in enumerate(said):
        until = said[place + 1][0] if place + 1 < len(said) else np.inf
        after = starts[(starts > end) & (starts < until)]
        if len(after):
            found.append((after[0] - end) / 1000)
    return found


def interruptions(seen: dict[str, list[float]]) -> list[float]:
    """Milliseconds from the beginning of an utterance to the stop of the sound that it cut short."""
    stops = np.array(seen["stops"])
    return [
        stops[stops > begin][0] - begin
        for begin, end in utterances(seen["loud"])
        if ((stops > begin) & (stops < end)).any()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="questions of each kind; the median counts")
    parser.add_argument("--out", type=Path, default=RESULTS / "live.json")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.info("load before: %s on %d cores", " ".join(f"{one:.2f}" for one in os.getloadavg()), os.cpu_count())
    rounds, rows = arguments.rounds, []

    def row(name: str, found: list[float], unit: str, goal: float | None) -> None:
        log.info("%-28s %8.2f %s of %s", name, statistics.median(found), unit, [round(float(one), 2) for one in found])
        value = round(statistics.median(found), 2 if unit == "s" else 0)
        rows.append(Row(name, value, unit, goal, "lower", len(found), None, None, machine(), "make bench-live"))

    with tempfile.TemporaryDirectory() as folder:
        with serving("app.py") as (address, _):
            seen = talk(address, microphone(Path(folder) / "over.wav", rounds, interrupting=True), rounds, live=True)
            row("live_first_speech_s", answers(seen)[1:], "s", GOAL)  # the first reply of a process warms it up
            row("barge_in_ms", interruptions(seen), "ms", BARGE_IN)
        with serving("-m", "omni.bench.live_gradio") as (address, _):
            seen = talk(address, microphone(Path(folder) / "one.wav", rounds, interrupting=False), rounds, live=False)
            row("live_first_speech_gradio_s", answers(seen)[1:], "s", None)
    log.info("load after: %s", " ".join(f"{one:.2f}" for one in os.getloadavg()))
    write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
