"""``make bench-real``: Qwen3-Omni-30B-A3B at its true size, random weights, on this machine's CPU.

Writes a checkpoint and a slab (25 GB; 40 GB of disk are asked for), then answers with a quarter and half of the experts
in memory and with as many as there is memory for, each in a process of its own, and deletes the files. Random weights
say nothing, so the prompt is made of token numbers; the engine is the one of the page. Rows in
``omni/bench/results/qwen3_omni.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from omni.bench import true_size
from omni.bench.peers import bandwidth
from omni.bench.peers.ours import bring
from omni.bench.peers.steps import memory
from omni.conversation import Conversation, Message, Text
from omni.engine import Wish
from omni.engines.qwen3_omni import Qwen3OmniEngine
from omni.engines.qwen3_omni_opening import config_of
from omni.engines.qwen3_omni_reading import Reading
from omni.events import Event, Progress, SpeechChunk, TextDelta
from omni.experts import loading
from omni.experts.linear import FourBitLinear
from omni.experts.plan import Plan, find_config, plan_for
from omni.figures import ROOT, Row, machine, write_rows

log = logging.getLogger(__name__)
RESULTS = Path(__file__).parent / "results" / "qwen3_omni.json"
MODEL = "Qwen/Qwen3-Omni-30B-A3B-Instruct"
COMMAND = "make bench-real"
DISK_BYTES = 40 * 10**9
SHARES = (0.25, 0.5)  # of all experts, in memory; and as many as fit
SPARE_BYTES = 10**9  # left to everything else on the machine
PROMPT, WORDS, FRAMES = 40, 24, 40  # tokens read, tokens written, codec frames of 80 ms
SOUND = 60  # seconds heard in the turn that fills the planned context
PATCHES = 24  # on a side of the picture seen in that turn
MEL_FRAMES, HEARD_A_SECOND = 100, 13  # of the audio encoder: frames in, tokens out
SEEDS, ENOUGH_FRAMES = 40, 8
CONTEXT = 1024  # tokens that the plan reckons with
FRAMES_A_SECOND = 12.5
GOALS = {  # unit, goal, better
    "load_s": ("s", 120, "lower"),
    "plan_error": ("%", 5, "lower"),
    "first_speech_token": ("tokens", 12, "lower"),
    "bandwidth_bound": ("%", 30, "higher"),
    "talker_realtime": ("x", 1.0, "higher"),
}


class Numbers:
    """Stands in for a tokeniser: reads any conversation as the same random words, writes a token as its number.

    With ``sound`` the words come behind noise of that many seconds and a picture of noise.
    """

    def __init__(self, config, sound: int = 0):
        self.config, self.tokenizer, self.sound = config, self, sound

    def read(self, conversation: Conversation) -> Reading:
        config, generator = self.config, torch.Generator().manual_seed(1)
        vocabulary = config.thinker_config.text_config.vocab_size
        words = torch.randint(20, vocabulary // 2, (PROMPT,), generator=generator).tolist()
        inputs, heard = {}, []
        if self.sound:
            frames = self.sound * MEL_FRAMES
            mels = config.thinker_config.audio_config.num_mel_bins
            inputs["input_features"] = torch.randn(1, mels, frames, generator=generator)
            inputs["feature_attention_mask"] = torch.ones(1, frames, dtype=torch.long)
            marks, eye = config.thinker_config, config.thinker_config.vision_config
            heard = [marks.audio_start_token_id, *[marks.audio_token_id] * self.sound * HEARD_A_SECOND, words[0]]
            patch = eye.in_channels * eye.temporal_patch_size * eye.patch_size**2
            inputs["image_grid_thw"] = torch.tensor([[1, PATCHES, PATCHES]])
            inputs["pixel_values"] = torch.randn(PATCHES**2, patch, generator=generator)
            heard += [
                marks.vision_start_token_id,
                *[marks.image_token_id] * (PATCHES // eye.spatial_merge_size) ** 2,
                words[0],
            ]
        ids = [config.im_start_token_id, config.user_token_id, *heard, *words, config.im_end_token_id]
        ids += [config.im_start_token_id, config.assistant_token_id]
        return Reading({"input_ids": torch.tensor([ids]), **inputs}, False, {"text": len(ids)}, (), False)

    def decode(self, tokens: list[int], **_) -> str:
        return " ".join(map(str, tokens))


class Peak:
    """The most memory that this process ever had, weights in mapped files included, in megabytes.

    Looked at twenty times a second.
    """

    def __init__(self):
        self.megabytes = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.megabytes = max(self.megabytes, memory()["rss_mb"])
            time.sleep(0.05)


def plan_of(config) -> Plan:
    """What the plan reckons with on a CPU, wherever all experts fit."""
    return plan_for(config, 10**15, "cpu", CONTEXT, True)


def largest_share(config, memory: int) -> float:
    """How many of the experts ``memory`` bytes have room for beside the rest, in whole hundredths."""
    plan = plan_of(config)
    return min(1.0, max(0, 100 * (memory - plan.fixed_bytes) // plan.most_bytes) / 100)


def answered(folder: Path, share: float) -> dict:
    """What one process measures with that share of the experts in memory, the page loaded beside it."""
    import omni.ui.page  # noqa: F401  -- a tenth of a gigabyte, which the plan counts

    peak, config = Peak(), config_of(folder)
    plan = plan_of(config)
    budget = int(share * plan.most_bytes)
    started = time.perf_counter()
    loaded = loading.load_model(folder, budget, "cpu", four_bit_dense=True)
    load_seconds = time.perf_counter() - started
    bring(loaded)
    engine = Qwen3OmniEngine(loaded.model, loaded.experts, Numbers(config), CONTEXT)
    conversation = Conversation(folder, (Message("user", (Text("words"),)),))
    words = _timed(engine.reply(conversation, Wish(frozenset({"text"}), seed=1, max_tokens=WORDS)), TextDelta)
    for seed in range(SEEDS):  # random weights may end their speech at once
        first_speech, frames = _spoken(engine, conversation, seed)
        if len(frames) >= ENOUGH_FRAMES:
            break
    engine.reader = Numbers(config, SOUND)  # both encoders at work, and most of the context
    heard = _timed(engine.reply(conversation, Wish(frozenset({"text"}), seed=1, max_tokens=4)), TextDelta)
    thinker, talker = loaded.experts.pools
    hits = {held.pool.name: _rate(held.stats.total()) for held in (thinker, talker)}
    gaps = [after - before for before, after in zip(words, words[1:], strict=False)]
    return {
        "load_s": load_seconds, "first_text_s": words[0], "step_s": statistics.median(gaps[len(gaps) // 3 :]),
        "active_bytes": _active_bytes(loaded), "talker_s": statistics.median(frames[len(frames) // 3 :]),
        **first_speech, "peak_mb": peak.megabytes, "planned_mb": (plan.fixed_bytes + budget) / 2**20,
        "anon_mb": memory()["anon_mb"], "heard_s": heard[0],
        **{f"{name}_hits": rate for name, rate in hits.items()}, "load": os.getloadavg()[0],
    }  # fmt: skip


def _timed(events: Iterator[Event], kind: type) -> list[float]:
    """Seconds from the start to each event of that kind."""
    started, times = time.perf_counter(), []
    for event in events:
        if isinstance(event, kind):
            times.append(time.perf_counter() - started)
    return times


def _spoken(engine: Qwen3OmniEngine, conversation: Conversation, seed: int) -> tuple[dict, list[float]]:
    """When speech came first, in tokens of text and seconds, and the seconds of each frame once the text has ended."""
    first, texts, frames = {}, 0, []
    wish = Wish(frozenset({"text", "speech"}), seed=seed, max_tokens=WORDS // 2)
    started = before = time.perf_counter()
    with contextlib.closing(engine.reply(conversation, wish)) as events:
        for event in events:
            now = time.perf_counter()
            texts += isinstance(event, TextDelta)
            if isinstance(event, SpeechChunk) and not first:
                first = {"first_speech_token": texts, "first_speech_s": now - started}
            if event == Progress("Speaking") and texts >= WORDS // 2:
                frames.append(now - before)
                before = now
            if len(frames) > FRAMES:
                break
            if isinstance(event, TextDelta):
                before = now
    return first, frames


def _active_bytes(loaded: loading.Loaded) -> int:
    """Bytes of all weights that one token of the thinker reads."""
    thinker = loaded.experts.pools[0]
    experts = len(thinker.pool.layers) * thinker.top_k * thinker.pool.shape.used_bytes
    dense = sum(
        module.shape.used_bytes
        for name, module in loaded.model.thinker.named_modules()
        if isinstance(module, FourBitLinear)
    )
    routers = sum(
        router.numel() * 2 for name, router in loaded.model.thinker.named_parameters() if "gate.weight" in name
    )
    return experts + dense + routers


def _rate(counts) -> float:
    return counts.hits / max(1, counts.hits + counts.misses)


def rows_of(results: dict[float, dict], gb_s: float) -> list[Row]:
    """The goals' rows, from the largest share that was run, then what each share measured."""
    whole = results[max(results)]
    step_bound = whole["active_bytes"] / (gb_s * 1e9)
    figures = {
        "load_s": max(one["load_s"] for one in results.values()),
        "plan_error": max(100 * abs(one["peak_mb"] / one["planned_mb"] - 1) for one in results.values()),
        "first_speech_token": max(one["first_speech_token"] for one in results.values()),
        "bandwidth_bound": 100 * step_bound / whole["step_s"],
        "talker_realtime": 1 / whole["talker_s"] / FRAMES_A_SECOND,
    }
    rows = [_row(name, value, *GOALS[name]) for name, value in figures.items()]
    for share, one in results.items():
        named = {
            "tokens_a_second": (1 / one["step_s"], "1/s"), "frames_a_second": (1 / one["talker_s"], "1/s"),
            "first_text_s": (one["first_text_s"], "s"), "first_speech_s": (one["first_speech_s"], "s"),
            "anonymous_mb": (one["anon_mb"], "MB"), "peak_mb": (one["peak_mb"], "MB"),
            "planned_mb": (one["planned_mb"], "MB"), "minute_of_sound_s": (one["heard_s"], "s"),
        }  # fmt: skip
        rows += [_row(f"{name}_{100 * share:.0f}", *pair, None, "higher") for name, pair in named.items()]
    return rows


def _row(name: str, value: float, unit: str, goal: float | None, better: str) -> Row:
    return Row(name, round(value, 2), unit, goal, better, 1, None, None, machine(), COMMAND)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m omni.bench.qwen3_omni", description=__doc__.splitlines()[0])
    parser.add_argument("--arm", nargs=2, metavar=("FOLDER", "SHARE"), help="measure one share, and print it")
    parser.add_argument("--config", default=MODEL, help="another configuration: a folder with a config.json")
    parser.add_argument("--shares", type=float, nargs="+", help="of the experts; else a quarter, half, and what fits")
    parser.add_argument("--folder", type=Path, help="where the large files go for the time being")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.arm:
        print(json.dumps(answered(Path(arguments.arm[0]), float(arguments.arm[1]))))
        return
    config, _ = find_config(arguments.config)
    with tempfile.TemporaryDirectory(prefix="omni-real-", dir=arguments.folder) as folder:
        free = shutil.disk_usage(folder).free
        if free < DISK_BYTES and arguments.config == MODEL:
            sys.exit(f"This needs {DISK_BYTES / 1e9:.0f} GB of disk, and {folder} has {free / 1e9:.0f}; see --folder.")
        started = time.perf_counter()
        true_size.write(config, Path(folder))
        log.info("written in %.0f s; load %s", time.perf_counter() - started, os.getloadavg())
        gb_s = bandwidth.measure()["gb_s"]
        log.info("memory reads %.1f GB/s", gb_s)
        shares = arguments.shares or (*SHARES, largest_share(config, psutil.virtual_memory().available - SPARE_BYTES))
        results = {share: one for share in shares if (one := _measured(folder, share))}
    if results:
        rows = rows_of(results, gb_s)
        for row in rows:
            log.info("%-24s %9.2f %s %s %s", row.name, row.value, row.unit, row.target, "missed" if row.missed else "")
        write_rows(arguments.out, rows)


def _measured(folder: str, share: float) -> dict | None:
    """One share in a process of its own; None where it does not fit or fails, and the log says why."""
    command = [sys.executable, "-m", "omni.bench.qwen3_omni", "--arm", folder, str(share)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        log.warning("%.0f%% of the experts failed (%d): %s", 100 * share, done.returncode, last)
        return None
    result = json.loads(done.stdout.splitlines()[-1])
    log.info("%.0f%% of the experts: %s", 100 * share, {name: round(value, 3) for name, value in result.items()})
    return result


if __name__ == "__main__":
    main()
