"""What is shown of a reply's inside: telemetry and usage folded into plain values for the page.

Values grow by numbered entries, as Gradio sends the difference of two values place by place. Knows nothing of Gradio.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from typing import Any

import numpy as np

from omni.conversation import Audio, Image, Message, Part, Text, Video, things
from omni.events import Event, Finished, Routed, Telemetry, Usage
from omni.experts.stats import mutual_information

TITLE = 90  # characters of a question that are shown

NOTHING: dict[str, Any] = {
    "name": None,
    "at": 0.0,
    "state": "empty",
    "title": "",
    "pools": {},
    "read": {},
    "runs": {},
    "alike": {},
}
NO_TURN: dict[str, Any] = {
    "at": 0.0,
    "state": "empty",
    "pace": {},
    "usage": None,
    "waited": 0.0,
    "files": 0.0,
    "media": {},
}


class Look:
    """The inside of one reply.

    State: the tokens by run, how many of each modality each expert took, the pace, the usage, and the times that the
    page itself took, in seconds.
    """

    def __init__(self, name: str, question: Message, asked: float):
        """``name`` tells two replies apart; ``asked`` is when the question was asked, as time.monotonic tells it."""
        self._name, self._title = name, title_of(question)
        self._asked, self._began = asked, None
        self._pools: dict[str, dict[str, int]] = {}
        self._read: dict[str, dict[str, np.ndarray]] = {}
        self._made: dict[str, dict[str, np.ndarray]] = {}
        self._told: dict[str, dict[str, str]] = {}  # what was read, encoded
        self._runs: dict[str, list] = {}
        self._pace: dict[str, list[float]] = {}
        self._usage: Usage | None = None
        self._finished = self._files = 0.0
        self._media: dict[str, dict[str, float]] = {}
        self._state = "live"

    def take(self, events: Iterable[Event]) -> None:
        """More of the reply."""
        self._began = self._began or time.monotonic()
        for event in events:
            if isinstance(event, Telemetry):
                self._follow(event)
            elif isinstance(event, Finished):
                self._usage, self._finished = event.usage, time.monotonic()

    def end(self, thread: tuple[Message, ...]) -> None:
        """The reply, last in ``thread``, is over and its files stand; it may have been stopped before its end."""
        self._state = "done" if self._usage else "stopped"
        if self._usage:
            self._files = time.monotonic() - self._finished
        *context, reply = thread
        read = [part for message in context for part in message.parts]
        self._media = {"in": amounts(read), "out": amounts(reply.parts)}

    def fail(self) -> None:
        """The reply came to nothing."""
        self._state = "stopped"

    def tokens_value(self) -> dict[str, Any]:
        """Which experts took which tokens."""
        return {
            "name": self._name,
            "at": self._asked,
            "state": self._state,
            "title": self._title,
            "pools": self._pools,
            "read": self._told,
            "runs": dict(self._runs),
            "alike": {} if self._state == "live" else self._alike(),
        }

    def turn_value(self) -> dict[str, Any]:
        """What the reply took, stage by stage and in all, and how fast it went."""
        return {
            "at": self._asked,
            "state": self._state,
            "pace": dict(self._pace),
            "usage": asdict(self._usage) if self._usage else None,
            "waited": max(0.0, (self._began or self._asked) - self._asked),
            "files": self._files,
            "media": self._media,
        }

    def _follow(self, told: Telemetry) -> None:
        made = sum(told.tokens_out.values())
        self._pace[str(len(self._pace))] = [
            round(told.seconds, 3), made, told.experts_used, told.experts_fetched, told.bytes_fetched,
            round(told.stalled, 4), told.held_bytes, told.budget_bytes,
        ]  # fmt: skip
        for routed in told.routed:
            self._count(routed)
        if runs := [run_value(routed) for routed in told.routed if not routed.read]:
            self._runs[str(len(self._runs))] = runs

    def _count(self, routed: Routed) -> None:
        """Add to the tokens that each expert took of each modality."""
        _, layers, k = routed.experts.shape
        self._pools.setdefault(routed.pool, {"layers": layers, "experts": routed.of, "k": k})
        side = (self._read if routed.read else self._made).setdefault(routed.pool, {})
        kinds = np.array(routed.kinds)
        for kind in dict.fromkeys(routed.kinds):
            counts = side.setdefault(kind, np.zeros((layers, routed.of), np.int32))
            chosen = routed.experts[kinds == kind]
            layer = np.broadcast_to(np.arange(layers)[:, None], chosen.shape)
            np.add.at(counts, (layer[chosen >= 0], chosen[chosen >= 0]), 1)
            if routed.read:
                self._told = {**self._told, routed.pool: {**self._told.get(routed.pool, {}), kind: packed(counts)}}

    def _alike(self) -> dict[str, list[float]]:
        """By pool and layer, how much the modality of a token tells of its experts, 0..1; where there are several."""
        found = {}
        for pool in self._pools:
            sides = (self._read.get(pool, {}), self._made.get(pool, {}))
            kinds = dict.fromkeys(kind for side in sides for kind in side if kind != "mark")
            sums = [sum(side[kind] for side in sides if kind in side) for kind in kinds]
            if len(sums) > 1:
                found[pool] = [round(one, 3) for one in mutual_information(np.stack(sums, 1))]
        return found


def run_value(routed: Routed) -> list:
    """A run of tokens: pool, kinds with their numbers, pieces (none where all are codes), experts (T, layers, k)."""
    kinds = [[kind, len(list(run))] for kind, run in groupby(routed.kinds)]
    pieces = list(routed.pieces) if any(routed.pieces) else []
    return [routed.pool, kinds, pieces, base64.b64encode(routed.experts.astype("<i2").tobytes()).decode()]


def packed(counts: np.ndarray) -> str:
    """Counts (layers, experts) as base64 of little-endian 32-bit numbers."""
    return base64.b64encode(counts.astype("<i4").tobytes()).decode()


def amounts(parts: Iterable[Part]) -> dict[str, float]:
    """How many pictures, and how many seconds of sound and of clips."""
    found = {"pictures": 0, "sound": 0.0, "clips": 0.0}
    for part in parts:
        match part:
            case Image():
                found["pictures"] += 1
            case Audio(seconds=seconds):
                found["sound"] += seconds
            case Video(seconds=seconds):
                found["clips"] += seconds
    return found


def title_of(question: Message) -> str:
    """The question in a line."""
    words = " ".join(question.text.split())
    kinds = {Image: "a picture", Audio: "a sound", Video: "a clip", Text: "a document"}
    sent = [kinds[type(first)] for first, *_ in things(question.attached)]
    line = " with ".join(filter(None, (words, ", ".join(sent))))
    return line if len(line) <= TITLE else line[: TITLE - 1] + "…"
