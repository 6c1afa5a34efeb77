"""An engine as the exam meets it: a question goes in as a conversation and a wish, the events of the reply come back.

Nothing here is known of any engine. One that does not tell what it hears is asked to write it down; one that was not
raised on the picture book is told in which form the book answers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from omni import media
from omni.conversation import Conversation, Message, Part, Text
from omni.engine import Engine, Wish
from omni.events import ClipReady, Event, Finished, Heard, ImageReady, Progress, SpeechChunk, TextDelta, Usage
from omni.exams.questions import Film, Picture, Question, Sound
from omni.media.audio import resample
from omni.media.video import SHOWN_SIDE, square
from omni.primer.training.world import FPS, FRAMES, SIZE

RATE = 16000
SILENT = np.zeros(0, np.float32)
WRITE_DOWN = "Write down what is said, word for word, in small letters, without punctuation, numbers in words."


class RoundTrip(Protocol):
    """Media through the codes of an engine and back; see omni.exams.primer.Codec."""

    def recoded(self, medium: np.ndarray) -> np.ndarray: ...


@dataclass
class Answer:
    """A reply: the transcript of what was heard, its words, and what it made, None where it made none."""

    heard: str = ""
    words: str = ""
    picture: np.ndarray | None = None  # (64, 64, 3) uint8
    frames: np.ndarray | None = None  # (8, 64, 64, 3) uint8, evenly spaced over the clip
    frame_seconds: float = 1 / FPS  # between two of them
    track: np.ndarray | None = None  # (N,) float32 at 16 kHz, the clip's sound
    samples: np.ndarray | None = None  # (N,) float32 at 16 kHz, speech or a tone
    usage: Usage = field(default_factory=Usage)


class Student:
    """An engine, and its codec where one is known. State: whether it tells what it hears, None before the first sound.

    ``explain`` adds to each question in which form the book answers.
    """

    def __init__(
        self,
        engine: Engine,
        codec: RoundTrip | None = None,
        explain: bool = False,
        max_tokens: int = Wish.max_tokens,
    ):
        self.engine, self.codec, self.explain, self.max_tokens = engine, codec, explain, max_tokens
        self.tells: bool | None = None

    def answer(self, question: Question, seed: int = 0, listen_only: bool = False) -> Answer:
        """The reply to a question; with ``listen_only`` no more of it than what the engine heard."""
        if not listen_only:
            return self._reply(question, seed)
        if self.tells is not False:
            answer = self._reply(question, seed, listen_only=True)
            self.tells = bool(self.tells or answer.heard)
            if self.tells:
                return answer
        written = Question((*question.parts, WRITE_DOWN), question.truth, outputs=frozenset({"text"}))
        answer = self._reply(written, seed)
        return Answer(heard=answer.words, usage=answer.usage)

    def _reply(self, question: Question, seed: int, listen_only: bool = False) -> Answer:
        wish = Wish(question.outputs, question.voice, question.temperature, seed, self.max_tokens)
        with tempfile.TemporaryDirectory(prefix="exam-") as folder:
            conversation = Conversation(Path(folder), (Message("user", self._parts(question, Path(folder))),))
            return collect(self.engine.reply(conversation, wish), listen_only)

    def _parts(self, question: Question, folder: Path) -> tuple[Part, ...]:
        parts = [as_part(part, folder) for part in question.parts]
        if self.explain and question.form:
            parts.append(Text(question.form))
        return tuple(parts)


def as_part(part: str | Picture | Film | Sound, folder: Path) -> Part:
    """What the user sends, as a file in ``folder``; pictures and clips as large as the page makes them."""
    match part:
        case str():
            return Text(part)
        case Picture():
            return media.write_image(_enlarged(part.pixels), folder)
        case Film():
            return media.write_video(part.frames, FPS, SILENT, RATE, folder)
    return media.write_audio(part.samples, RATE, folder)


def collect(events: Iterable[Event], listen_only: bool = False) -> Answer:
    """A reply's events as an Answer in the exam's sizes; with ``listen_only`` closed at the first that is not heard."""
    answer, words, speech, rate = Answer(), [], [], RATE
    for event in events:
        match event:
            case Heard():
                answer.heard = event.text
            case TextDelta():
                words.append(event.text)
            case SpeechChunk():
                speech.append(event.samples)
                rate = event.rate
            case ImageReady() if answer.picture is None:
                answer.picture = square(event.pixels, SIZE)
            case ClipReady() if answer.frames is None:
                _watch(answer, event)
            case Finished():
                answer.usage = event.usage
        if listen_only and not isinstance(event, Progress):
            events.close()  # the engine stops within one step
            break
    answer.words = "".join(words).strip()
    if speech:
        answer.samples = resample(np.concatenate(speech), rate, RATE)
    return answer


def _watch(answer: Answer, clip: ClipReady) -> None:
    """The clip in the exam's size and number of frames."""
    last = len(clip.frames) - 1
    shown = np.linspace(0, last, FRAMES).round().astype(int)
    answer.frames = np.stack([square(frame, SIZE) for frame in clip.frames[shown]])
    answer.frame_seconds = last / clip.fps / (FRAMES - 1)
    answer.track = resample(clip.samples, clip.rate, RATE)


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    """(64, 64, 3) to (256, 256, 3) uint8, pixel by pixel: reduced again by area nothing has changed."""
    times = SHOWN_SIDE // pixels.shape[0]
    return pixels.repeat(times, 0).repeat(times, 1)
