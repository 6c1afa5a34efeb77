"""The files of one reply: what a model made is marked, written and signed.

Marks go into events, between the engine and whatever shows them: so speech is marked before it is heard, and what is
heard is what is written. Credentials go into the finished file. A reply is never lost over either: what is missing is
said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from omni import media
from omni.conversation import Audio, Conversation, Image, Message, Text, Video
from omni.events import ClipPreview, ClipReady, Event, ImagePreview, ImageReady, SpeechChunk
from omni.provenance.credentials import CannotSign, Claim, Ingredient, sign
from omni.provenance.keys import Keys
from omni.provenance.marks import Voice, Watermark, watermark_of
from omni.provenance.watermark import payload_of

log = logging.getLogger(__name__)

Media = Image | Audio | Video
Made = TypeVar("Made", Image, Audio, Video)
RECENT = 3  # messages: the question, and the exchange before it, which it may speak of


@dataclass(frozen=True, eq=False)
class Imprint:
    """How the files of one reply by ``engine`` to ``asked`` are finished. State: the notices so far."""

    folder: Path
    keys: Keys
    engine: str
    asked: Conversation
    tells: bool = False  # the visitor wishes that the words of the question stand in the credentials
    notices: list[str] = field(default_factory=list)  # what went amiss, in sentences for the visitor

    @property
    def watermark(self) -> Watermark | None:
        """The mark of this playground, where it has a key for one."""
        return watermark_of(self.keys.watermark) if self.keys.watermark else None

    def marked(self, events: Generator[Event]) -> Iterator[Event]:
        """The events with marks in all that is seen and heard; closing this closes the engine's own generator."""
        mark = self._marking()
        with closing(events):
            for event in events:
                yield mark(event)

    def image(self, pixels: np.ndarray, caption: str) -> Image:
        """A finished picture, marked already, as a signed file."""
        return self.signed(media.write_image(pixels, self.folder, caption))

    def video(self, frames: np.ndarray, fps: float, samples: np.ndarray, rate: int, caption: str) -> Video:
        """A finished clip, marked already, as a signed file."""
        return self.signed(media.write_video(frames, fps, samples, rate, self.folder, caption))

    def audio(self, samples: np.ndarray, rate: int, transcript: str) -> Audio:
        """A finished sound, marked already, as a signed file."""
        return self.signed(media.write_audio(samples, rate, self.folder, transcript))

    def signed(self, part: Made) -> Made:
        """The part, with credentials in its file; what keeps it from being signed becomes a notice."""
        words = self.asked.messages[-1].text if self.tells else ""
        claim = Claim(self.engine, datetime.now(UTC), self.watermark is not None, self._ingredients(type(part)), words)
        notice = self.keys.trouble
        try:
            notice = sign(part.path, claim, self.keys) or notice
        except CannotSign as reason:
            log.warning("%s is not signed: %s", part.path.name, reason, exc_info=reason.__cause__)
            notice = str(reason)
        if notice and notice not in self.notices:
            self.notices.append(notice)
        return part

    def _marking(self) -> Callable[[Event], Event]:
        """What marks the events of this reply one after the other. State: the voice that speaks in it."""
        watermark, payload = self.watermark, payload_of(datetime.now(UTC).date())
        voices: dict[int, Voice] = {}

        def mark(event: Event) -> Event:
            match event:
                case SpeechChunk(samples, rate):
                    if rate not in voices:
                        voices[rate] = watermark.voice(rate, payload)
                    return replace(event, samples=voices[rate].push(samples))
                case ImagePreview(pixels) | ImageReady(pixels):
                    return replace(event, pixels=watermark.mark_picture(pixels, payload))
                case ClipPreview(frame):
                    return replace(event, frame=watermark.mark_picture(frame, payload))
                case ClipReady(frames, _, samples, rate):
                    samples = watermark.voice(rate, payload).push(samples)
                    return replace(event, frames=watermark.mark_frames(frames, payload), samples=samples)
            return event

        return mark if watermark else lambda event: event

    def _ingredients(self, kind: type[Media]) -> tuple[Ingredient, ...]:
        """What the visitor gave: the first picture or clip of the same kind was edited, all else was looked at.

        A voice that answers a voice is no edit of it. What came before the last exchange is not named, as no one can
        tell whether it still mattered.
        """
        question = _media(self.asked.messages[-1])
        parent = next((part for part in question if kind is not Audio and isinstance(part, kind)), None)
        given = [
            part for message in self.asked.messages[-RECENT:] if message.role == "user" for part in _media(message)
        ]
        return tuple(Ingredient(part.path, parent=part is parent) for part in given if part.path.exists())


def _media(message: Message) -> list[Media]:
    return [part for part in message.parts if not isinstance(part, Text)]
