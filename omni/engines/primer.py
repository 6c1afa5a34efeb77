"""Primer behind the engine protocol: a conversation becomes one sequence, its continuation becomes events.

Primer remembers the last exchange or two: older turns are left out, as its training had no longer dialogues.
"""

from __future__ import annotations

import logging
import resource
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

from omni import media
from omni.conversation import Audio, Conversation, Image, Message, Part, Text, Video
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
from omni.primer import shipping, vocabulary
from omni.primer.modeling import PrimerForCausalLM
from omni.primer.processing import FPS, FRAMES, IMAGE_CODES, Sequence, Tokenizers
from omni.primer.sampling import Decoder, OutOfTokens, Plan, Token, reply
from omni.primer.tokenizers.audio import HOP, RATE
from omni.primer.tokenizers.image import SIZE, to_pixels
from omni.primer.tokenizers.text import normalise
from omni.primer.tokenizers.video import LATER_CODES

log = logging.getLogger(__name__)

WEIGHTS = Path(__file__).parent.parent / "primer" / "weights"
EARLIER_TURNS = 2  # messages before the last one that Primer looks back on
MAX_CONTEXT = 640  # tokens, as in training
MAX_LISTEN = 10.0  # seconds of sound in a message
SHOWN = 256  # pixels: pictures of 64 are enlarged for people
PREVIEWS = 8  # of a picture
FIRST_CHUNK, CHUNK = 6, 15  # audio codes of 20 ms before speech is sent on


class PrimerEngine:
    """The shipped model and its tokenisers. Holds no state between replies."""

    name = "Primer"
    capabilities = Capabilities(
        inputs=frozenset({"text", "image", "audio", "video"}),
        outputs=frozenset({"text", "speech", "image", "video"}),
        voices=vocabulary.SPEAKERS,
        context_tokens=MAX_CONTEXT,
        about="Primer is a small model that knows a picture book of 64 things. It reads, sees, hears and watches, "
        "and answers in words, speech, pictures and clips, all of its own making.",
    )

    def __init__(self, model: PrimerForCausalLM, tokenizers: Tokenizers):
        self.model, self.tokenizers = model, tokenizers

    @classmethod
    def open(cls, device: str = "auto", folder: Path = WEIGHTS) -> PrimerEngine:
        """Load the weights in ``folder``. Raises OmniError where they are missing or damaged."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        started = time.perf_counter()
        try:
            engine = cls(shipping.load(folder).to(device), Tokenizers.load(folder))
        except Exception as error:
            raise OmniError(
                f"Primer's weights in {folder} are missing or damaged; please install them again."
            ) from error
        log.info("Primer loaded on %s in %.1f s", device, time.perf_counter() - started)
        return engine

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """Answer the last message of ``conversation``; see omni.engine.Engine."""
        yield Progress("Reading")
        tally = Tally()
        sequence, heard = self.read(conversation, tally)
        decoder = Decoder(self.model, sequence, plan_of(wish))
        writer = Writer(self.tokenizers, wish, tally)
        reason = "end"
        try:
            for token in reply(decoder, heard):
                yield from writer.write(token)
        except OutOfTokens:
            reason = "length"
        yield from writer.finish()
        yield Finished(tally.usage(), reason)

    def read(self, conversation: Conversation, tally: Tally) -> tuple[Sequence, bool]:
        """The sequence that Primer is to continue, and whether its last turn holds sound."""
        *earlier, last = conversation.messages
        question = self._turn(last)
        pieces = [self._turn(message) for message in earlier[-EARLIER_TURNS:]]
        if pieces and earlier[-len(pieces)].role != "user":
            pieces = pieces[1:]
        while pieces and len(question) + sum(map(len, pieces)) > MAX_CONTEXT:
            pieces = pieces[2:]
        if len(question) > MAX_CONTEXT:
            raise OmniError("That is more than Primer can take in at once; please send fewer files or fewer words.")
        sequence = Sequence()
        sequence.push(vocabulary.BEGIN)
        for piece in (*pieces, question):
            sequence.append(piece)
        sequence.push(vocabulary.ASSISTANT)
        tally.read(sequence)
        return sequence, any(isinstance(part, Audio) for part in last.parts)

    def _turn(self, message: Message) -> Sequence:
        """One message as tokens, media first, as in training."""
        sequence = Sequence()
        if message.role == "user":
            sequence.push(vocabulary.USER)
            for part in sorted(message.parts, key=_reading_order):
                self._part(sequence, part)
            return sequence
        sequence.extend([vocabulary.ASSISTANT, vocabulary.WRITE])
        sequence.extend(self.tokenizers.text.encode(_words(message)))
        for part in message.parts:
            if isinstance(part, (Image, Video)):
                self._part(sequence, part)
        sequence.push(vocabulary.END)
        return sequence

    def _part(self, sequence: Sequence, part: Part) -> None:
        match part:
            case Text():
                sequence.extend(self.tokenizers.text.encode(normalise(part.text)))
            case Image():
                sequence.image(self.tokenizers.encode_images(_square(media.read_image(part))[None])[0])
            case Video():
                frames, _ = media.read_video(part, FPS, SIZE, RATE)
                eight = frames[np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)]
                sequence.video(*self.tokenizers.encode_clips(eight[None])[0])
            case Audio():
                if part.seconds > MAX_LISTEN:
                    raise OmniError(f"Primer listens to {MAX_LISTEN:.0f} seconds at most; please send a shorter sound.")
                sequence.audio(self.tokenizers.encode_sound(media.read_audio(part, RATE)))


def plan_of(wish: Wish) -> Plan:
    """What the grammar of the reply must and may hold for a user's wish."""
    seed = wish.seed if wish.seed is not None else secrets.randbelow(2**31)
    voice = wish.voice if wish.voice in vocabulary.SPEAKERS else None
    common = {"voice": voice, "temperature": wish.temperature, "seed": seed, "max_tokens": wish.max_tokens}
    if wish.outputs is None:
        return Plan(**common)
    marks = {"image": vocabulary.IMAGE, "video": vocabulary.FILM}
    made = tuple(mark for name, mark in marks.items() if name in wish.outputs)
    sound = frozenset({vocabulary.AUDIO}) if "speech" in wish.outputs else frozenset()
    return Plan(spoken="speech" in wish.outputs, must_make=made, may_make=sound, **common)


def _reading_order(part: Part) -> int:
    """Pictures and clips first, then sound, then words."""
    return {Image: 0, Video: 0, Audio: 1, Text: 2}[type(part)]


def _words(message: Message) -> str:
    """What a reply said, written, spoken or under its picture."""
    spoken = [part.transcript for part in message.parts if isinstance(part, Audio)]
    captions = [part.caption for part in message.parts if isinstance(part, (Image, Video))]
    return next((words for words in (message.text, *spoken, *captions) if words), "")


def _square(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to the middle square at 64 x 64."""
    return np.asarray(PIL.ImageOps.fit(PIL.Image.fromarray(pixels), (SIZE, SIZE), PIL.Image.Resampling.BOX))


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    """(64, 64, 3) uint8 to 256 x 256, smoothly."""
    return np.asarray(PIL.Image.fromarray(pixels).resize((SHOWN, SHOWN), PIL.Image.Resampling.LANCZOS))


class Tally:
    """What a reply takes. State: token counts by modality and the times of firsts, in seconds since the start."""

    def __init__(self):
        self.started = time.perf_counter()
        self.tokens_in: Counter[str] = Counter()
        self.tokens_out: Counter[str] = Counter()
        self.times: dict[str, float] = {}
        self.speech_seconds = 0.0

    def read(self, sequence: Sequence) -> None:
        """Count what was read; visual codes after ``<video>`` are a clip's."""
        visual = "image"
        for token in sequence.ids:
            if token in (vocabulary.IMAGE, vocabulary.VIDEO, vocabulary.FILM):
                visual = "image" if token == vocabulary.IMAGE else "video"
            modality = vocabulary.modality(token)
            self.tokens_in[visual if modality == "visual" else modality] += 1

    def note(self, name: str) -> None:
        """Remember when ``name`` happened first."""
        self.times.setdefault(name, time.perf_counter() - self.started)

    def usage(self) -> Usage:
        return Usage(
            tokens_in=dict(self.tokens_in),
            tokens_out=dict(self.tokens_out),
            seconds=time.perf_counter() - self.started,
            speech_seconds=self.speech_seconds,
            first_text=self.times.get("text"),
            first_speech=self.times.get("speech"),
            image=self.times.get("image"),
            clip=self.times.get("clip"),
            peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )


class Writer:
    """Makes events of tokens. State: the words so far, the speech stream, the codes of the medium being made."""

    def __init__(self, tokenizers: Tokenizers, wish: Wish, tally: Tally):
        self.tokenizers, self.tally = tokenizers, tally
        self.shows_text = wish.outputs is None or "text" in wish.outputs
        self.heard: list[int] = []
        self.words: list[int] = []
        self.told = ""  # of the words, already sent
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
                self.tally.tokens_out["text"] += 1
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
                yield Progress({vocabulary.IMAGE: "Drawing", vocabulary.FILM: "Filming"}.get(token.value, "Answering"))

    def finish(self) -> Iterator[Event]:
        """What is still held back when the tokens end."""
        if self.stream is not None:
            yield from self._send(last=True)

    def _word(self, token: int) -> Iterator[Event]:
        self.tally.tokens_out["text"] += 1
        self.words.append(token)
        text = self.tokenizers.text.decode(self.words).lstrip()
        if not self.shows_text or text.endswith("\ufffd"):  # half a character: wait for the rest
            yield Progress("Answering")
            return
        self.tally.note("text")
        yield TextDelta(text[len(self.told) :])
        self.told = text

    def _sound(self, code: int) -> Iterator[Event]:
        self.tally.tokens_out["speech"] += 1
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
        self.tally.tokens_out["image"] += 1
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
        """64 codes to (64, 64, 3) uint8."""
        with torch.inference_mode():
            return to_pixels(self.tokenizers.image.decode(torch.tensor([codes])))[0]

    def _film(self, token: Token) -> Iterator[Event]:
        if self.film is None:
            self.film = Film(self.tokenizers)
        if token.kind == "film-audio":
            self.film.sound.append(token.value)
            self.tally.tokens_out["video"] += 1
            if len(self.film.sound) == RATE // HOP * FRAMES // FPS:
                self.tally.note("clip")
                samples = self.tokenizers.audio.decode(torch.tensor(self.film.sound)).numpy()
                frames = np.stack([_enlarged(frame) for frame in self.film.frames])
                yield ClipReady(frames, FPS, samples, RATE, self._caption())
                return
        else:
            self.tally.tokens_out["video"] += 1
            if (frame := self.film.push(token.value)) is not None:
                yield ClipPreview(_enlarged(frame), len(self.film.frames) - 1, FRAMES)
        yield Progress("Filming", len(self.film.frames) / FRAMES)

    def _caption(self) -> str:
        return self.tokenizers.text.decode(self.words).strip()


class Film:
    """A clip being made. State: finished frames (64, 64, 3) uint8, codes of the frame in work, sound codes."""

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
