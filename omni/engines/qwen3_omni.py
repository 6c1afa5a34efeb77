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
from huggingface_hub import snapshot_download
from transformers import AutoConfig, PreTrainedConfig, Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration

from omni.conversation import Audio, Conversation
from omni.engine import Capabilities, Wish
from omni.engines.qwen3_omni_reading import Reader, Reading
from omni.engines.sampling import Chooser, Sampling
from omni.engines.talker import MOST_FRAMES, Prompt, Speech, Talker
from omni.engines.tally import Tally
from omni.engines.thinker import Thinker
from omni.engines.vocoder import RATE
from omni.errors import OmniError
from omni.events import Event, Finished, Progress, SpeechChunk, TextDelta
from omni.experts import loading
from omni.experts.cache import BudgetError
from omni.experts.conversion import terminal_progress
from omni.experts.plan import parse_memory, plan_for
from omni.experts.residence import Experts
from omni.experts.slab import SlabError

log = logging.getLogger(__name__)

REPOSITORY = "Qwen/Qwen3-Omni-30B-A3B-Instruct"
REVISION = "26291f793822fb6be9555850f06dfe95f2d7e695"
FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")
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
            folder = fetch(model, revision)
            report(Progress("Loading the model"))
            config = config_of(folder)
            room = room_for(config, memory, where)
            reader = Reader(folder, int(room.context_tokens * MEDIA_SHARE), system)
            loaded = loading.load_model(
                folder, room.experts_bytes, where, dtype, slabs, room.four_bit_dense, progress=_told(report)
            )
        except (SlabError, ValueError, OSError) as error:  # each of them has a sentence
            raise OmniError(f"Qwen3-Omni cannot start: {_first_line(error)}.") from error
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
        return Turn(voice if speaks else None, wish.temperature, seed, wish.max_tokens)

    def _answer(self, conversation: Conversation, turn: Turn) -> Iterator[Event]:
        """One try at a reply: words and speech token by token, then the rest of the speech."""
        yield Progress("Reading")
        tally = Tally(self.experts)
        reading = self.reader.read(conversation)
        tally.tokens_in.update(reading.tokens)
        if reading.left_out:
            yield Progress(f"Without what no longer fits: {_listed(reading.left_out)}")
        most = self._most(reading, turn)
        sampling = Sampling(turn.temperature, TOP_K, TOP_P)
        thinker = Thinker(self.model, Chooser(sampling, turn.seed, self.model.device))
        prompt = thinker.read(self._on_device(reading), reading.sound_in_clips, for_talker=turn.voice is not None)
        speech, words = self._speech(prompt, turn), Words(self.reader.tokenizer, THOUGHT if reading.thinks else "")
        reason, end = "length", self.model.config.im_end_token_id
        for count in range(1, most + 1):
            token = thinker.choose()
            if token == end:
                reason = "end"
                break
            tally.tokens_out["text"] += 1
            if told := words.add(token):
                tally.note("text")
            yield TextDelta(told) if told else Progress("Writing")
            if count < most:
                if speech:
                    speech.talker.hear(token)
                    yield from _step(speech, tally)
                thinker.step(token)
        if told := words.rest():
            yield TextDelta(told)
        if speech:
            speech.talker.end()
            while not speech.talker.finished:
                yield from _step(speech, tally)
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


@dataclass(frozen=True)
class Room:
    """What a memory is dealt to: ``experts_bytes`` of None is all of them."""

    experts_bytes: int | None
    four_bit_dense: bool
    context_tokens: int


def room_for(config: PreTrainedConfig, memory: str, device: torch.device) -> Room:
    """Deal "12GB", or "all". On a CPU, where the bytes of a token are its time, the dense part is in 4 bits too.

    Raises ValueError (BudgetError, with the number that would do) where it is too little or no amount.
    """
    packed = device.type == "cpu"
    if memory == "all":
        return Room(None, packed, config.thinker_config.text_config.max_position_embeddings)
    amount = parse_memory(memory)
    try:
        plan = plan_for(config, amount, device.type, four_bit_dense=packed)
    except BudgetError:
        if packed:
            raise
        plan = plan_for(config, amount, device.type, four_bit_dense=True)
    return Room(plan.experts_bytes, plan.four_bit_dense, plan.context_tokens)


def fetch(model: str, revision: str) -> Path:
    """The folder of a checkpoint, from the hub where it is no folder. Raises OmniError."""
    if Path(model).is_dir():
        return Path(model)
    try:
        revision = revision or (REVISION if model == REPOSITORY else None)
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:
        raise OmniError(f"{model} is no folder, and the hub does not give it: {_first_line(error)}.") from error


def config_of(folder: Path) -> Qwen3OmniMoeConfig:
    """Raises OSError or ValueError where the folder holds another model, or none."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"there is no config.json in {folder}")
    config = AutoConfig.from_pretrained(folder)
    if not isinstance(config, Qwen3OmniMoeConfig):
        raise ValueError(f"{folder} holds a model of the kind {config.model_type}, and this engine runs Qwen3-Omni")
    return config


def _told(report: Callable[[Progress], None]) -> Callable[[int, int], None]:
    """Follows a conversion in the terminal and in the page."""
    bar = terminal_progress()

    def show(done: int, total: int) -> None:
        bar(done, total)
        writing = Progress("Writing the experts in 4 bits, once", done / total)
        report(writing if done < total else Progress("Loading the model"))

    return show


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _step(speech: Speech, tally: Tally) -> Iterator[Event]:
    """The events of one codec frame, if it can be made; at least one, so that a reply can be stopped after it."""
    if not speech.talker.ready:
        return
    start = speech.vocoder.sent
    for samples in speech.step():
        tally.note("speech")
        tally.speech_seconds += len(samples) / RATE
        yield SpeechChunk(samples.cpu().numpy(), RATE, start)
    tally.tokens_out["speech"] = speech.talker.frames
    yield Progress("Speaking")


def _listed(kinds: tuple[str, ...]) -> str:
    """``("picture", "picture", "clip")`` as "2 pictures, 1 clip"."""
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    return ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items())
