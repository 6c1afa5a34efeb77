"""An engine that says what the question tells it to: for tests of the page, which needs no model for that.

The words of the question choose the reply: "slow" (words and speech until it is stopped), "long" (words), "fail",
"break", "speak", "draw", "film", "everything"; anything else is repeated. Where the question carries media, their
measures are told. The voice "hoarse" fails after a few words.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from omni.conversation import Audio, Conversation, Image, Part, Text, Video
from omni.engine import Capabilities, Wish
from omni.errors import OmniError
from omni.events import (
    ClipPreview,
    ClipReady,
    Event,
    Finished,
    Heard,
    ImagePreview,
    ImageReady,
    Progress,
    SpeechChunk,
    TextDelta,
    Usage,
)
from omni.media import read_audio, read_image

RATE = 16_000
SIDE = 64
FRAMES = 8
STEP = 0.02  # seconds that this engine takes for a token


class FakeEngine:
    """State: how many replies are running, how many were closed before their end."""

    name = "Fake"
    capabilities = Capabilities(
        inputs=frozenset({"text", "image", "audio", "video"}),
        outputs=frozenset({"text", "speech", "image", "video"}),
        voices=("alto", "bass", "hoarse"),
        context_tokens=4096,
        about="A scripted engine for tests of the page: it repeats, hums, paints squares and films them.",
        frames=2,
    )

    def __init__(self) -> None:
        self.running = 0
        self.closed = 0

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """Follow the script that the question names."""
        question = conversation.messages[-1]
        self.running += 1
        try:
            yield Progress("Reading")
            yield from self._script(question.text, question.parts, wish)
            yield Finished(Usage({"text": 9}, {"text": 21}, 1.0, first_text=0.1))
        except GeneratorExit:
            self.closed += 1
            raise
        finally:
            self.running -= 1

    def _script(self, text: str, parts: tuple[Part, ...], wish: Wish) -> Iterator[Event]:
        if "fail" in text or wish.voice == "hoarse":
            yield TextDelta("I was about to ")
            raise OmniError("The model ran out of memory; try a shorter message.")
        if "break" in text:
            raise ZeroDivisionError("a fault that no visitor may see")
        if any(isinstance(part, Audio) for part in parts):
            yield Heard("a hum")
        everything = "everything" in text
        asked = wish.outputs or frozenset()
        measured = [measure(part) for part in parts if not isinstance(part, Text) or part.document]
        if "text" in asked or not asked:
            yield from words(" and ".join(measured) if measured else f"You said: {text}. It **went** well.")
        if "slow" in text:
            yield from interleaved(3000)
        if "long" in text:
            yield from words("and so on " * 200)
        if everything or "speak" in text or "speech" in asked or wish.aloud:
            yield from hum(2.0)
        if everything or "draw" in text or "image" in asked:
            yield from picture()
        if everything or "film" in text or "video" in asked:
            yield from clip()


def measure(part: Part) -> str:
    """The colour of a picture, the pitch of a sound, the length of a clip, the last word of a document."""
    match part:
        case Text():
            return f"a document ending in {part.text.split()[-1]}"
        case Image():
            red, green, blue = read_image(part).reshape(-1, 3).mean(axis=0)
            return f"a picture of {red:.0f} {green:.0f} {blue:.0f}"
        case Audio():
            samples = read_audio(part, RATE)
            pitch = np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples)
            return f"a sound of {pitch:.0f} Hz"
        case Video():
            return f"a clip of {part.width}x{part.height}, {part.seconds:.1f} s"


def words(text: str) -> Iterator[Event]:
    """The words of a text, one after the other."""
    for word in text.split(" "):
        time.sleep(STEP)
        yield TextDelta(word + " ")


def sine(start: int, count: int) -> np.ndarray:
    """``count`` samples of a 440 Hz tone from sample ``start`` on."""
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(start, start + count) / RATE)).astype(np.float32)


def hum(seconds: float) -> Iterator[Event]:
    """Speech that is a tone, in chunks of 80 ms, twice as fast as it sounds."""
    size = int(0.08 * RATE)
    for start in range(0, int(seconds * RATE), size):
        time.sleep(0.04)
        yield SpeechChunk(sine(start, size), RATE, start)


def interleaved(count: int) -> Iterator[Event]:
    """Words and speech by turns, for as long as nobody stops it."""
    for index in range(count):
        time.sleep(STEP)
        yield TextDelta(f"word{index} ")
        yield SpeechChunk(sine(index * 640, 640), RATE, index * 640)


def square(left: int) -> np.ndarray:
    """A white square on green, ``left`` pixels from the edge."""
    pixels = np.full((SIDE, SIDE, 3), (40, 150, 90), dtype=np.uint8)
    pixels[20:44, left : left + 24] = 245
    return pixels


def picture() -> Iterator[Event]:
    """A square that sharpens from blocks."""
    full = square(20)
    for size in (32, 16, 8, 4, 2):
        time.sleep(0.1)
        blocks = full[size // 2 :: size, size // 2 :: size].repeat(size, 0).repeat(size, 1)
        yield ImagePreview(blocks, 1 / size)
    yield ImageReady(full, "a white square on green")


def clip() -> Iterator[Event]:
    """A square that moves, with a tone."""
    frames = np.stack([square(5 * index) for index in range(FRAMES)])
    for index in range(FRAMES):
        time.sleep(0.1)
        yield ClipPreview(frames[index], index, FRAMES)
    yield ClipReady(frames, 8.0, sine(0, RATE), RATE, "a square that moves")
