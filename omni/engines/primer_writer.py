"""From Primer's tokens to events: words, speech, pictures that sharpen, clips frame by frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import PIL.Image
import torch

from omni.engine import Wish
from omni.engines.tally import Tally
from omni.events import (
    ClipPreview,
    ClipReady,
    Event,
    Heard,
    ImagePreview,
    ImageReady,
    Progress,
    SpeechChunk,
    TextDelta,
)
from omni.primer import vocabulary
from omni.primer.processing import FPS, FRAMES, IMAGE_CODES, Sequence, Tokenizers
from omni.primer.sampling import Token
from omni.primer.tokenizers.audio import HOP, RATE
from omni.primer.tokenizers.image import to_pixels
from omni.primer.tokenizers.video import LATER_CODES

SHOWN = 256  # pixels a side: pictures are enlarged for people
PREVIEWS = 8  # of a picture
FIRST_CHUNK, CHUNK = 6, 15  # audio codes of 20 ms before speech is sent on


_AFTER = {  # a mark, and what visual codes and sound codes belong to after it; None is as before
    vocabulary.USER: (None, "audio"),
    vocabulary.ASSISTANT: (None, "speech"),
    vocabulary.IMAGE: ("image", None),
    vocabulary.VIDEO: ("video", None),
    vocabulary.FILM: ("video", "video"),
}


class Kinds:
    """Names the modality of each token of a sequence, one after the other; marks are "mark".

    State: what visual codes and sound codes belong to by now.
    """

    def __init__(self) -> None:
        self.visual, self.sound = "image", "audio"

    def of(self, token: int) -> str:
        """The modality of the next token."""
        if vocabulary.TEXT_CODES <= token < vocabulary.VISUAL_START:
            visual, sound = _AFTER.get(token, (None, None))
            self.visual, self.sound = visual or self.visual, sound or self.sound
            return "mark"
        return {"text": "text", "visual": self.visual, "audio": self.sound}[vocabulary.modality(token)]


def count_tokens(sequence: Sequence) -> Counter[str]:
    """What was read, by modality; marks count as text."""
    counts = Counter(map(Kinds().of, sequence.ids))
    counts["text"] += counts.pop("mark", 0)
    return counts


class Writer:
    """Makes events of tokens. State: the words so far, the speech stream, the codes of the medium being made.

    In a story the words are those of the sentence, the codes those of its picture.
    """

    def __init__(self, tokenizers: Tokenizers, wish: Wish, tally: Tally):
        self.tokenizers, self.tally = tokenizers, tally
        self.shows_text = wish.outputs is None or "text" in wish.outputs
        self.heard: list[int] = []
        self.words: list[int] = []
        self.told = ""  # of the words, already sent
        self.opening = ""  # what stands between the words before and the next
        self.codes: list[int] = []  # of the picture
        self.film: Film | None = None
        self.waiting: list[int] = []  # audio codes not yet decoded
        self.stream = None
        self.sample = 0  # samples of speech sent

    def write(self, token: Token) -> Iterator[Event]:
        """The events of one token; at least one, so that a reply can be stopped after every step."""
        if self.heard and token.kind != "heard":
            yield Heard(self.tokenizers.text.decode(self.heard).strip())
            self.heard = []
        match token.kind:
            case "heard":
                self.heard.append(token.value)
                self.tally.made("text")
                yield Progress("Listening")
            case "text" | "word":
                yield from self._word(token.value)
            case "speech" | "sound":
                yield from self._sound(token.value)
            case "image":
                yield from self._image(token.value)
            case "film-visual" | "film-audio":
                yield from self._film(token)
            case "mark":
                if token.value in (vocabulary.WRITE, vocabulary.SPEAK):
                    self._begin()
                yield Progress({vocabulary.IMAGE: "Drawing", vocabulary.FILM: "Filming"}.get(token.value, "Answering"))

    def finish(self) -> Iterator[Event]:
        """What is still held back when the tokens end."""
        if self.stream is not None:
            yield from self._send(last=True)

    def _begin(self) -> None:
        """The next sentence of a story begins a line of its own."""
        self.opening = "\n" if self.words else ""
        self.words, self.told, self.codes = [], "", []

    def _word(self, token: int) -> Iterator[Event]:
        self.tally.made("text")
        self.words.append(token)
        text = self.tokenizers.text.decode(self.words).lstrip()
        fresh = text[len(self.told) :]
        if not self.shows_text or not fresh or text.endswith("\ufffd"):  # nothing yet, or half a character
            yield Progress("Answering")
            return
        self.tally.note("text")
        yield TextDelta(self.opening + fresh)
        self.opening, self.told = "", text

    def _sound(self, code: int) -> Iterator[Event]:
        self.tally.made("speech")
        if self.stream is None:
            self.stream = self.tokenizers.audio.stream()
        self.waiting.append(code)
        if len(self.waiting) >= (CHUNK if self.sample else FIRST_CHUNK):
            yield from self._send()
        yield Progress("Speaking")

    def _send(self, last: bool = False) -> Iterator[Event]:
        """Decode the waiting codes and send their samples on."""
        samples = self.stream.push(torch.tensor(self.waiting, dtype=torch.long))
        if last:
            samples = torch.cat([samples, self.stream.finish()])
        self.waiting = []
        if len(samples):
            self.tally.note("speech")
            self.tally.speech_seconds += len(samples) / RATE
            yield SpeechChunk(samples.numpy(), RATE, self.sample)
            self.sample += len(samples)

    def _image(self, code: int) -> Iterator[Event]:
        self.tally.made("image")
        self.codes.append(code)
        done = len(self.codes) / IMAGE_CODES
        if len(self.codes) == IMAGE_CODES:
            pixels = self._picture(self.codes)
            self.tally.note("image")
            yield ImageReady(_enlarged(pixels), self._caption())
        elif len(self.codes) % (IMAGE_CODES // PREVIEWS) == 0:
            ground = Counter(self.codes).most_common(1)[0][0]
            yield ImagePreview(_enlarged(self._picture(self.codes + [ground] * (IMAGE_CODES - len(self.codes)))), done)
        else:
            yield Progress("Drawing", done)

    def _picture(self, codes: list[int]) -> np.ndarray:
        """64 codes to (128, 128, 3) uint8."""
        with torch.inference_mode():
            return to_pixels(self.tokenizers.image.decode(torch.tensor([codes])))[0]

    def _film(self, token: Token) -> Iterator[Event]:
        if self.film is None:
            self.film = Film(self.tokenizers)
        if token.kind == "film-audio":
            self.film.sound.append(token.value)
            self.tally.made("video")
            if len(self.film.sound) == RATE // HOP * FRAMES // FPS:
                self.tally.note("clip")
                samples = self.tokenizers.audio.decode(torch.tensor(self.film.sound)).numpy()
                frames = np.stack([_enlarged(frame) for frame in self.film.frames])
                yield ClipReady(frames, FPS, samples, RATE, self._caption())
                return
        else:
            self.tally.made("video")
            if (frame := self.film.push(token.value)) is not None:
                yield ClipPreview(_enlarged(frame), len(self.film.frames) - 1, FRAMES)
        yield Progress("Filming", len(self.film.frames) / FRAMES)

    def _caption(self) -> str:
        """The words without half a character at their end, as they were sent."""
        return self.tokenizers.text.decode(self.words).rstrip("\ufffd").strip()


class Film:
    """A clip being made. State: finished frames (128, 128, 3) uint8, codes of the frame in work, sound codes."""

    def __init__(self, tokenizers: Tokenizers):
        self.tokenizers = tokenizers
        self.first: list[int] = []
        self.codes: list[int] = []
        self.frames: list[np.ndarray] = []
        self.sound: list[int] = []

    def push(self, code: int) -> np.ndarray | None:
        """One visual code; the frame where it was its last."""
        self.codes.append(code)
        if len(self.codes) < (LATER_CODES if self.frames else IMAGE_CODES):
            return None
        with torch.inference_mode():
            if not self.frames:
                self.first = self.codes
                pixels = self.tokenizers.image.decode(torch.tensor([self.first]))
            else:
                codes = torch.tensor([self.first]), torch.tensor([self.codes])
                pixels = self.tokenizers.video.decode_frame(self.tokenizers.image, *codes)
        self.codes = []
        self.frames.append(to_pixels(pixels)[0])
        return self.frames[-1]


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    """(128, 128, 3) uint8 to 256 x 256, smoothly."""
    return np.asarray(PIL.Image.fromarray(pixels).resize((SHOWN, SHOWN), PIL.Image.Resampling.LANCZOS))
