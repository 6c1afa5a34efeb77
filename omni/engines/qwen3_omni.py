"""Qwen3-Omni behind the engine protocol: text, pictures, sound and clips in, words and speech out, both as they come.

Its experts are held in 4 bits by ``omni.experts``, as many of them as there is memory for. A checkpoint without a
talker, such as Qwen3-Omni-Thinking, answers in words alone; its thoughts stand between ``<think>`` and ``</think>``.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Qwen3OmniMoeForConditionalGeneration

from omni.conversation import Audio, Conversation
from omni.engine import Capabilities, Wish
from omni.engines.borrowed import at_once
from omni.engines.inspection import Inspection
from omni.engines.qwen3_omni_inside import Routes, card_of
from omni.engines.qwen3_omni_opening import REPOSITORY, config_of, fetch, first_line, room_for, told
from omni.engines.qwen3_omni_reading import Reader, Reading
from omni.engines.sampling import Chooser, Sampling
from omni.engines.talker import MOST_FRAMES, Prompt, Speech, Talker
from omni.engines.tally import Tally
from omni.engines.thinker import Thinker
from omni.engines.vocoder import RATE
from omni.errors import OmniError
from omni.events import Event, Finished, Progress, SpeechChunk, TextDelta
from omni.experts import loading
from omni.experts.residence import Experts
from omni.experts.slab import SlabError

log = logging.getLogger(__name__)

TOP_K, TOP_P = 20, 0.8  # what the authors advise; temperature is the user's
LEAST_REPLY = 64  # tokens that must be left of the context
MEDIA_SHARE = 0.75  # of the context
SHRINK = 0.75  # of the experts' memory stays when the device's memory has run out
THOUGHT = "<think>\n"
FULL = "The memory of the device has run out; please send fewer files or fewer words."


class Qwen3OmniEngine:
    """A loaded checkpoint, its reader and the memory of its experts, the only state between replies."""

    name = "Qwen3-Omni"

    def __init__(
        self, model: Qwen3OmniMoeForConditionalGeneration, experts: Experts, reader: Reader, context_tokens: int
    ):
        self.model, self.experts, self.reader = model, experts, reader
        talks = model.has_talker
        self.capabilities = Capabilities(
            inputs=frozenset({"text", "image", "audio", "video"}),
            outputs=frozenset({"text", "speech"} if talks else {"text"}),
            voices=tuple(model.config.talker_config.speaker_id or ()) if talks else (),
            context_tokens=context_tokens,
            about="Qwen3-Omni reads, sees, hears and watches, and answers in words"
            + (" and in speech, which begins while it still writes" if talks else ", thinking first")
            + ". It makes no pictures or clips yet.",
            frames=8,
        )
        self.inside = Inspection(experts, card_of(model, experts, context_tokens))

    @classmethod
    def open(
        cls,
        model: str = REPOSITORY,
        revision: str = "",
        device: str = "auto",
        memory: str = "all",
        slabs: Path | None = None,
        system: str = "",
        dtype: torch.dtype = torch.bfloat16,
        report: Callable[[Progress], None] = lambda _: None,
    ) -> Qwen3OmniEngine:
        """Load a folder, or a repository of the hub, within ``memory`` of the device: "12GB" or "all".

        An empty ``revision`` is the pinned one of REPOSITORY, and the newest of any other. ``report`` is told how far
        it is. The experts stand in a file that is made in ``slabs`` once. Raises OmniError with a sentence where the
        checkpoint cannot be had or is no such model, the file cannot be made, or the memory is too little.
        """
        where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        started = time.perf_counter()
        try:
            report(Progress("Fetching the checkpoint"))
            folder = fetch(model, revision, report)
            report(Progress("Loading the model"))
            config = config_of(folder)
            room = room_for(config, memory, where)
            reader = Reader(folder, int(room.context_tokens * MEDIA_SHARE), system)
            loaded = loading.load_model(
                folder, room.experts_bytes, where, dtype, slabs, room.four_bit_dense, progress=told(report),
                at_once=at_once(room.experts_bytes),
            )  # fmt: skip
        except (SlabError, ValueError, OSError) as error:  # each of them has a sentence
            raise OmniError(f"Qwen3-Omni cannot start: {first_line(error)}.") from error
        log.info(
            "%s loaded on %s in %.1f s; %s", model, where, time.perf_counter() - started, loaded.experts.describe()
        )
        return cls(loaded.model, loaded.experts, reader, room.context_tokens)

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """Answer the last message of ``conversation``; see omni.engine.Engine.

        What is spoken is also written. "As asked" is in speech where the question holds sound. Where the memory of the
        device runs out before anything was said, it is tried once more with fewer experts in it.
        """
        turn = self._turn(conversation, wish)
        for again in (False, True):
            said = False
            try:
                for event in self._answer(conversation, turn):
                    said = said or isinstance(event, (TextDelta, SpeechChunk))
                    yield event
                return
            except SlabError as error:
                raise OmniError(str(error)) from error
            except torch.OutOfMemoryError as error:
                if said or again:
                    self._make_room()
                    raise OmniError(FULL) from error
            self._make_room()  # only here is what the failed try held let go
            yield Progress("Making room")

    def _turn(self, conversation: Conversation, wish: Wish) -> Turn:
        """What the user wants. Raises OmniError for what this checkpoint cannot do."""
        able = self.capabilities
        if missing := (wish.outputs or frozenset()) - able.outputs:
            raise OmniError(f"This model gives no {min(missing)}; it answers in {' and '.join(sorted(able.outputs))}.")
        if wish.voice is not None and able.voices and wish.voice not in able.voices:
            raise OmniError(f"There is no voice {wish.voice!r}; choose one of {', '.join(able.voices)}.")
        spoken_to = any(isinstance(part, Audio) for part in conversation.messages[-1].parts)
        as_asked = able.outputs if wish.aloud or spoken_to else ()
        speaks = "speech" in (as_asked if wish.outputs is None else wish.outputs)
        seed = wish.seed if wish.seed is not None else secrets.randbelow(2**31)
        voice = wish.voice or next(iter(able.voices), None)
        return Turn(voice if speaks else None, wish.temperature, seed, wish.max_tokens, wish.telemetry)

    def _answer(self, conversation: Conversation, turn: Turn) -> Iterator[Event]:
        """One try at a reply."""
        yield Progress("Reading")
        with Tally(self.experts, turn.telemetry) as tally:
            yield from self._speak(conversation, turn, tally)

    def _speak(self, conversation: Conversation, turn: Turn, tally: Tally) -> Iterator[Event]:
        """Words and speech token by token, then the rest of the speech."""
        reading = self.reader.read(conversation)
        tally.tokens_in.update(reading.tokens)
        tally.note("intake")
        routes = Routes(tally, self.reader, reading)
        if reading.left_out:
            yield Progress(f"Without what no longer fits: {_listed(reading.left_out)}")
        most = self._most(reading, turn)
        sampling = Sampling(turn.temperature, TOP_K, TOP_P)
        thinker = Thinker(self.model, Chooser(sampling, turn.seed, self.model.device))
        prompt = thinker.read(self._on_device(reading), reading.sound_in_clips, for_talker=turn.voice is not None)
        tally.note("prefill")
        speech, words = self._speech(prompt, turn), Words(self.reader.tokenizer, THOUGHT if reading.thinks else "")
        reason, end = "length", self.model.config.im_end_token_id
        for count in range(1, most + 1):
            token = thinker.choose()
            if token == end:
                reason = "end"
                break
            tally.made("text")
            routes.written(token)
            if told := words.add(token):
                tally.note("text")
            yield TextDelta(told) if told else Progress("Writing")
            if count < most:
                if speech:
                    speech.talker.hear(token)
                    yield from _step(speech, tally, routes)
                thinker.step(token)
                yield from tally.telemetry()
        if told := words.rest():
            yield TextDelta(told)
        if speech:
            speech.talker.end()
            while not speech.talker.finished:
                yield from _step(speech, tally, routes)
                yield from tally.telemetry()
        yield from tally.telemetry(last=True)
        yield Finished(tally.usage(), reason)

    def _most(self, reading: Reading, turn: Turn) -> int:
        """How many tokens the reply may have. Raises OmniError where the conversation leaves no room for it."""
        limit = self.capabilities.context_tokens
        if reading.length + min(LEAST_REPLY, turn.max_tokens) > limit:
            raise OmniError(
                f"This conversation has grown to {reading.length:,} tokens, and the model reads {limit:,}; "
                "please begin a new one, or send fewer files."
            )
        return min(turn.max_tokens, limit - reading.length)

    def _on_device(self, reading: Reading) -> dict[str, torch.Tensor]:
        device, dtype = self.model.device, self.model.dtype
        moved = {name: value.to(device) for name, value in reading.inputs.items()}
        floats = ("pixel_values", "pixel_values_videos", "input_features")
        return {name: value.to(dtype) if name in floats else value for name, value in moved.items()}

    def _speech(self, prompt: Prompt, turn: Turn) -> Speech | None:
        if turn.voice is None:
            return None
        return Speech(Talker(self.model, prompt, turn.voice, turn.seed, turn.temperature == 0, MOST_FRAMES))

    def _make_room(self) -> None:
        """Keep fewer experts in memory from now on."""
        budget = max(self.experts.least_bytes, int(self.experts.budget * SHRINK))
        self.experts.resize(budget)
        torch.cuda.empty_cache()
        log.warning("the memory ran out: from now on %s", self.experts.describe())


@dataclass(frozen=True)
class Turn:
    """A user's wish as this engine takes it. ``voice`` is None where the reply is not spoken."""

    voice: str | None
    temperature: float
    seed: int
    max_tokens: int
    telemetry: bool = False


class Words:
    """Tokens to written words. State: the tokens so far, and what was told of them."""

    def __init__(self, tokenizer, start: str = ""):
        self.tokenizer, self.start = tokenizer, start
        self.tokens: list[int] = []
        self.told = ""

    def add(self, token: int) -> str:
        """What can be told now; nothing while a character is incomplete."""
        self.tokens.append(token)
        return "" if self._text().endswith("\ufffd") else self.rest()

    def rest(self) -> str:
        """All that was not told yet."""
        text = self._text()
        new, self.told = text[len(self.told) :], text
        return new

    def _text(self) -> str:
        return self.start + self.tokenizer.decode(self.tokens, skip_special_tokens=True) if self.tokens else ""


def _step(speech: Speech, tally: Tally, routes: Routes) -> Iterator[Event]:
    """The events of one codec frame, if it can be made; at least one, so that a reply can be stopped after it."""
    if not speech.talker.ready:
        return
    start, frames = speech.vocoder.sent, speech.talker.frames
    chunks = list(speech.step())
    if speech.talker.frames > frames:
        tally.made("speech")
        routes.spoken()
    for samples in chunks:
        tally.note("speech")
        tally.speech_seconds += len(samples) / RATE
        yield SpeechChunk(samples.cpu().numpy(), RATE, start)
    yield Progress("Speaking")


def _listed(kinds: tuple[str, ...]) -> str:
    """``("picture", "picture", "clip")`` as "2 pictures, 1 clip"."""
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    return ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items())
