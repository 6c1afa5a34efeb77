"""What the watermark survives, what it costs, and how often it is seen where it is not: on what Primer really makes.

``python -m omni.bench.watermark``; rows in ``omni/bench/results/watermark.json``. ``--only`` measures some of: found,
sizes, cost, exam, false_picture, false_clip, false_sound. A row is the share of files in which the mark is found at a
false-alarm bound of one in a million, after what its name says.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow

from omni.bench import attacks, marked_exam, unmarked
from omni.conversation import Conversation, Message, Text, Video
from omni.engine import Wish
from omni.engines.primer import PrimerEngine
from omni.events import ClipReady, Event, ImageReady, SpeechChunk
from omni.exams import questions
from omni.exams.questions import Question
from omni.figures import Row, machine, read_rows, write_rows
from omni.media import LIMITS, write_video
from omni.media.video import normalise_clip
from omni.provenance.imprint import Imprint
from omni.provenance.keys import open_keys
from omni.provenance.marks import SpreadSpectrum
from omni.provenance.watermark import Found

log = logging.getLogger(__name__)
RESULTS = Path(__file__).parent / "results" / "watermark.json"
COMMAND = "python -m omni.bench.watermark"
SEED = 2026
KEY = b"the key of this benchmark"
RATE = attacks.RATE
SECTIONS = ("found", "sizes", "cost", "exam", "false_picture", "false_clip", "false_sound")
SIDES = (64, 96, 128, 256, 512, 1024)  # pixels, of pictures that are marked
GOALS = {  # percent that has to be found
    "picture_jpeg75": 99, "picture_resize_0.75": 99, "picture_crop10": 90,
    "speech_mp3_128k": 99, "speech_opus_64k": 99, "speech_resample_8k": 99, "speech_trim_4s": 99,
    "clip_h264_crf28": 99,
}  # fmt: skip
PSNR, SNR, COST, CHANGE = 38, 30, 5, 1


@dataclass
class Made:
    """What Primer made: pictures, voices (single replies), clips; how long the first replies of each kind took."""

    pictures: list[np.ndarray] = field(default_factory=list)  # (H, W, 3) uint8
    voices: list[np.ndarray] = field(default_factory=list)  # (N,) float32 at RATE
    clips: list[ClipReady] = field(default_factory=list)
    times: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # seconds: of making, of finishing


def answers(engine: PrimerEngine, asked: list[Question], outputs: set[str]) -> Iterator[tuple[list[Event], float]]:
    """The events of a reply to each question, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        for seed, question in enumerate(asked):
            conversation = Conversation(Path(folder), (Message("user", (Text(question.parts[0]),)),))
            wish = Wish(frozenset(outputs), question.voice, question.temperature, seed)
            started = time.perf_counter()
            yield list(engine.reply(conversation, wish)), time.perf_counter() - started


def made_by_primer(engine: PrimerEngine, count: int, timed: int = 20) -> Made:
    """``count`` pictures and voices and half as many clips, asked for as the exam asks.

    The first ``timed`` of each kind are finished at once, so that making and finishing see the same load.
    """
    rng, made = np.random.default_rng(SEED), Made()
    asked = {
        "picture": (questions.pictures(rng, count, held_out=False), {"text", "image"}),
        "speech": (questions.aloud(rng, count), {"text", "speech"}),
        "clip": (questions.clips_asked(rng, max(1, count // 2)), {"text", "video"}),
    }
    with tempfile.TemporaryDirectory() as name:
        keys = open_keys(Path(name) / "keys", environment={})
        please = Conversation(Path(name), (Message("user", (Text("please"),)),))
        for kind, (wanted, outputs) in asked.items():
            times = made.times.setdefault(kind, [])
            for events, seconds in answers(engine, wanted, outputs):
                if len(times) < timed:
                    times.append((seconds, seconds_of_finishing(Imprint(Path(name), keys, "Primer", please), events)))
                made.pictures += [event.pixels for event in events if isinstance(event, ImageReady)]
                made.clips += [event for event in events if isinstance(event, ClipReady)]
                spoken = [event.samples for event in events if isinstance(event, SpeechChunk)]
                made.voices += [np.concatenate(spoken)] if spoken else []
    log.info("made %d pictures, %d voices, %d clips", len(made.pictures), len(made.voices), len(made.clips))
    return made


@dataclass
class Tally:
    """State: the rows so far, and of the marks that were found how many told the right week."""

    rows: list[Row] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)

    def found(self, name: str, verdicts: list[tuple[Found, int]]) -> None:
        """A row of how many were found; each verdict stands beside the payload that was put in."""
        sure = [found.sure for found, _ in verdicts]
        self.right += [found.payload == payload for found, payload in verdicts if found.sure]
        self.add(name, 100 * np.mean(sure), "%", GOALS.get(name), "higher", len(sure))

    def add(self, name: str, value: float, unit: str, goal: float | None, better: str, n: int) -> None:
        """One row."""
        self.rows.append(Row(name, float(f"{value:.4g}"), unit, goal, better, n, None, None, machine(), COMMAND))
        log.info("%-24s %10.4g %-6s n=%d", name, value, unit, n)


def found(made: Made, mark: SpreadSpectrum, tally: Tally) -> None:
    """After every attack."""
    rng = np.random.default_rng(SEED)
    pictures = [(mark.mark_picture(pixels, week), week) for week, pixels in enumerate(made.pictures)]
    for name, attack in attacks.PICTURES.items():
        tally.found(f"picture_{name}", [(mark.pictures.find(attack(one, rng)), week) for one, week in pictures])
    whole = [np.concatenate(made.voices[n : n + 3]) for n in range(0, len(made.voices) - 2)]
    for name, attack in attacks.SOUNDS.items():  # four seconds are longer than Primer speaks at once
        voices = [
            (sixteen_bits(mark.sounds.mark(one, RATE, week)), week)
            for week, one in enumerate(whole if name == "trim_4s" else made.voices)
        ]
        tally.found(f"speech_{name}", [(mark.sounds.find(attack(one, rng), RATE), week) for one, week in voices])
    for name, attack in attacks.CLIPS.items():
        verdicts = []
        for week, clip in enumerate(made.clips):
            samples = mark.sounds.mark(clip.samples, clip.rate, week)
            written = clip_bytes(mark.mark_frames(clip.frames, week), clip.fps, samples, clip.rate)
            verdicts.append((find_in(attack(written, rng), mark), week))
        tally.found(f"clip_{name}", verdicts)
    tally.add("week_right", 100 * np.mean(tally.right), "%", None, "higher", len(tally.right))


def sixteen_bits(samples: np.ndarray) -> np.ndarray:
    """As a WAV keeps them."""
    return (np.rint(samples * 32767) / 32767).astype(np.float32)


def clip_bytes(frames: np.ndarray, fps: float, samples: np.ndarray, rate: int) -> bytes:
    """The MP4 that the page would offer."""
    with tempfile.TemporaryDirectory() as folder:
        return write_video(frames, fps, samples, rate, Path(folder)).path.read_bytes()


def find_in(clip: bytes, mark: SpreadSpectrum) -> Found:
    """What the check finds in an MP4, by the very steps of an upload."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "clip.mp4"
        path.write_bytes(clip)
        with path.open("rb") as file:
            facts, payload = normalise_clip(file, "mov", LIMITS)
        path.write_bytes(payload)
        facts.pop("part")
        return mark.find(Video(path, **facts))


def sizes(made: Made, mark: SpreadSpectrum, tally: Tally) -> None:
    """Pictures of other sizes, marked at that size and saved as JPEG 75."""
    rng = np.random.default_rng(SEED)
    for side in SIDES:
        verdicts = []
        for week, pixels in enumerate(made.pictures[:100]):
            other = np.asarray(Pillow.fromarray(pixels).resize((side, side), Pillow.Resampling.LANCZOS))
            verdicts.append((mark.pictures.find(attacks.PICTURES["jpeg75"](mark.mark_picture(other, week), rng)), week))
        tally.found(f"size_{side}_jpeg75", verdicts)


def cost(made: Made, tally: Tally) -> None:
    """The quality of what is marked, and the time of marking and signing over that of making."""
    mark = SpreadSpectrum(KEY)
    ratios = [psnr(pixels, mark.mark_picture(pixels, week)) for week, pixels in enumerate(made.pictures)]
    tally.add("picture_psnr_db", min(ratios), "dB", PSNR, "higher", len(ratios))
    ratios = [psnr(clip.frames, mark.mark_frames(clip.frames, 1)) for clip in made.clips]
    tally.add("clip_psnr_db", min(ratios), "dB", PSNR, "higher", len(ratios))
    voices = [voice.clip(-1.0, 1.0) for voice in made.voices]  # as a file keeps them
    ratios = [snr(voice, mark.sounds.mark(voice, RATE, week)) for week, voice in enumerate(voices)]
    tally.add("speech_snr_db", min(ratios), "dB", SNR, "higher", len(ratios))
    for kind, times in made.times.items():
        making, finishing = np.sum(times[1:], axis=0)  # the first one makes the patterns of its key
        tally.add(f"cost_{kind}", 100 * finishing / making, "%", COST, "lower", len(times) - 1)


def seconds_of_finishing(imprint: Imprint, events: list[Event]) -> float:
    """How long marking the events of a reply and signing its files takes; writing them would be needed anyhow."""
    started = time.perf_counter()
    marked = list(imprint.marked(event for event in events))
    taken = time.perf_counter() - started
    spoken = [event for event in marked if isinstance(event, SpeechChunk)]
    parts = [imprint.image(event.pixels, "") for event in marked if isinstance(event, ImageReady)]
    parts += [
        imprint.video(event.frames, event.fps, event.samples, event.rate, "")
        for event in marked
        if isinstance(event, ClipReady)
    ]
    if spoken:
        parts.append(imprint.audio(np.concatenate([chunk.samples for chunk in spoken]), spoken[0].rate, ""))
    started = time.perf_counter()
    for part in parts:
        imprint.signed(part)
    return taken + time.perf_counter() - started


def unmarked_of(kind: str, count: int, tally: Tally) -> Callable[[], None]:
    """False alarms in one kind of media."""
    return lambda: unmarked.measure(kind, count, SEED, tally.add)


def psnr(before: np.ndarray, after: np.ndarray) -> float:
    """Peak signal over error, in decibels."""
    return float(10 * np.log10(255**2 / np.mean((after.astype(np.float32) - before) ** 2)))


def snr(before: np.ndarray, after: np.ndarray) -> float:
    """Signal over error, in decibels."""
    return float(10 * np.log10(np.sum(before**2) / np.sum((after - before) ** 2)))


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SECTIONS), help=", ".join(SECTIONS))
    parser.add_argument("--count", type=int, default=200, help="pictures and voices; half as many clips")
    parser.add_argument("--unmarked", type=int, default=10_000, help="inputs without a mark, of all kinds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("omni.media").setLevel(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    log.info("load: %s on %d cores", " ".join(f"{one:.2f}" for one in os.getloadavg()), os.cpu_count())
    tally, mark = Tally(), SpreadSpectrum(KEY)
    if {"found", "sizes", "cost"} & set(arguments.only):
        made = made_by_primer(PrimerEngine.open("cpu"), arguments.count)
    steps: dict[str, Callable[[], None]] = {
        "found": lambda: found(made, mark, tally),
        "sizes": lambda: sizes(made, mark, tally),
        **{f"false_{kind}": unmarked_of(kind, arguments.unmarked, tally) for kind in unmarked.SHARES},
        "cost": lambda: cost(made, tally),
        "exam": lambda: marked_exam.measure(mark, arguments.count, CHANGE, tally.add),
    }
    for section in arguments.only:
        steps[section]()
    new = {row.name: row for row in tally.rows}
    kept = {row.name: row for row in read_rows(arguments.out)}
    write_rows(arguments.out, {**kept, **new}.values())


if __name__ == "__main__":
    main()
