"""An engine as the exam meets it: questions go in as files of a conversation, answers come back as its events.

For models on a server, and for whatever else speaks the engine's protocol. Clips go through H.264 on the way, and no
ceiling knows the model's codes: it is what the probe reads of the true medium itself.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import PIL.Image

from omni import media
from omni.conversation import Conversation, Message, Part, Text
from omni.engine import Engine, Wish
from omni.events import ClipReady, Event, Heard, ImageReady, SpeechChunk, TextDelta
from omni.exams.questions import Film, Picture, Question, Sound
from omni.exams.student import Answer

SIDE = 64  # pixels of what the probes look at
RATE = 16_000  # samples a second of what they listen to
FPS = 4  # of the clips that are asked about


class DistantStudent:
    """Holds no state between questions."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def answer(self, question: Question, seed: int = 0, listen_only: bool = False) -> Answer:
        """The reply to a question; with ``listen_only`` it ends with the transcript. Raises OmniError."""
        outputs = frozenset({"text", "speech"}) if question.voice else None
        wish = Wish(outputs, question.voice, question.temperature, seed)
        answer, spoken = Answer(), []
        with tempfile.TemporaryDirectory() as name:
            parts = tuple(_part(part, Path(name)) for part in question.parts)
            conversation = Conversation(Path(name), (Message("user", parts),))
            with closing(self.engine.reply(conversation, wish)) as events:
                for event in events:
                    if listen_only and answer.heard and isinstance(event, TextDelta):
                        break
                    _note(answer, spoken, event)
        answer.words = answer.words.strip()
        if spoken:
            samples = np.concatenate([chunk.samples for chunk in spoken])
            answer.samples = media.resample(samples, spoken[0].rate, RATE)
        return answer

    def recoded(self, medium: np.ndarray) -> np.ndarray:
        """The medium as it is, since nobody here knows the codes of the model."""
        return medium


def _part(part: str | Picture | Film | Sound, folder: Path) -> Part:
    match part:
        case Picture():
            return media.write_image(part.pixels, folder)
        case Film():
            return media.write_video(part.frames, FPS, np.zeros(0, np.float32), RATE, folder)
        case Sound():
            return media.write_audio(part.samples, RATE, folder)
    return Text(part)


def _note(answer: Answer, spoken: list[SpeechChunk], event: Event) -> None:
    match event:
        case Heard(text):
            answer.heard = text
        case TextDelta(text):
            answer.words += text
        case SpeechChunk():
            spoken.append(event)
        case ImageReady(pixels):
            answer.picture = _small(pixels)
        case ClipReady(frames, samples=samples, rate=rate):
            answer.frames = np.stack([_small(frame) for frame in frames])
            answer.samples = media.resample(samples, rate, RATE) if len(samples) else None


def _small(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to (64, 64, 3), each pixel the mean of its area."""
    return np.asarray(PIL.Image.fromarray(pixels).resize((SIDE, SIDE), PIL.Image.Resampling.BOX))
