"""Primer behind the engine protocol: a conversation becomes one sequence, its continuation becomes events.

Primer remembers the last picture or clip of the two exchanges before: what goes on in its book goes on from one.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

from omni import media
from omni.conversation import Audio, Conversation, Image, Message, Part, Text, Video
from omni.engine import Capabilities, Card, Wish
from omni.engines.borrowed import at_once
from omni.engines.inspection import Inspection, components_of, routed_parameters
from omni.engines.primer_strand import Strand
from omni.engines.primer_writer import Writer, count_tokens
from omni.engines.tally import Tally
from omni.errors import OmniError
from omni.events import Event, Finished, Progress
from omni.experts import loading
from omni.experts.cache import BudgetError
from omni.experts.kernels import Floats, Kernel, Unpacked, best_kernel
from omni.experts.plan import parse_memory
from omni.experts.residence import Experts
from omni.experts.slab import Pool, SlabError
from omni.primer import shipping, vocabulary
from omni.primer.modeling import PrimerForCausalLM
from omni.primer.processing import FPS, FRAMES, Sequence, Tokenizers
from omni.primer.sampling import Decoder, OutOfTokens, Plan, reply
from omni.primer.shipping import WEIGHTS
from omni.primer.tokenizers.audio import RATE
from omni.primer.tokenizers.image import SIZE
from omni.primer.tokenizers.text import normalise

log = logging.getLogger(__name__)

EARLIER_TURNS = 4  # messages before the last one among which Primer looks for something shown or made
MAX_CONTEXT = 640  # tokens, as in training
MAX_LISTEN = 10.0  # seconds of sound in a message
_ROWS = {  # part of a module's name with its dots, and what it belongs to; the first that fits counts
    "embed_tokens.": "embeddings and head", "lm_head.": "embeddings and head", "norm.": "norms",
    "attention.": "attention", "gate.": "routers", "shared.": "shared experts", "mlp.": "dense first layer",
    "contrast.": "contrast head",
}  # fmt: skip


class PrimerEngine:
    """The shipped model, its tokenisers and the memory of its experts, the only state between replies."""

    name = "Primer"
    capabilities = Capabilities(
        inputs=frozenset({"text", "image", "audio", "video"}),
        outputs=frozenset({"text", "speech", "image", "video"}),
        voices=vocabulary.SPEAKERS,
        context_tokens=MAX_CONTEXT,
        about="Primer is a small model that knows a picture book of 104 things. It reads, sees, hears and watches, "
        "and answers in words, speech, pictures and clips, all of its own making.",
        eager=True,
    )

    def __init__(self, model: PrimerForCausalLM, tokenizers: Tokenizers, experts: Experts | None = None):
        self.model, self.tokenizers, self.experts = model, tokenizers, experts
        self.inside = Inspection(experts, card_of(model, tokenizers, experts)) if experts else None

    @classmethod
    def open(
        cls, device: str = "auto", folder: Path = WEIGHTS, memory: str = "all", slabs: Path | None = None
    ) -> PrimerEngine:
        """Load the weights in ``folder``, at most ``memory`` ("2MB", or "all") of the experts at a time.

        The experts stand in a file that is made in ``slabs`` once. Raises OmniError where the weights are missing or
        damaged, the file cannot be made, or the memory is too little.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        started = time.perf_counter()
        try:
            budget = None if memory == "all" else parse_memory(memory)
        except ValueError as error:
            raise OmniError(f"Primer cannot start: {error}.") from error
        try:
            model, experts = load_with_experts(folder, torch.device(device), budget, slabs)
            engine = cls(model, Tokenizers.load(folder), experts)
        except (SlabError, BudgetError) as error:
            raise OmniError(f"Primer cannot start: {str(error).rstrip('.')}.") from error
        except Exception as error:
            raise OmniError(
                f"Primer's weights in {folder} are missing or damaged; please install them again."
            ) from error
        log.info("Primer loaded on %s in %.1f s; %s", device, time.perf_counter() - started, experts.describe())
        return engine

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """Answer the last message of ``conversation``; see omni.engine.Engine."""
        yield Progress("Reading")
        tally = Tally(self.experts, wish.telemetry)
        sequence, heard = self.read(conversation, tally)
        tally.note("intake")
        decoder = Decoder(self.model, sequence, plan_of(wish), wish.telemetry, read=lambda: tally.note("prefill"))
        if tally.trace:
            tally.feed = Strand(tally.trace, decoder, self.tokenizers).feed
        writer = Writer(self.tokenizers, wish, tally)
        reason = "end"
        try:
            for token in reply(decoder, heard):
                yield from writer.write(token)
                yield from tally.telemetry()
        except OutOfTokens:
            reason = "length"
        yield from writer.finish()
        yield from tally.telemetry(last=True)
        yield Finished(tally.usage(), reason)

    def read(self, conversation: Conversation, tally: Tally) -> tuple[Sequence, bool]:
        """The sequence that Primer is to continue, and whether its last turn holds sound."""
        *earlier, last = conversation.messages
        question = self._turn(last)
        pieces = [self._turn(message) for message in _last_seen(earlier[-EARLIER_TURNS:])]
        if len(question) + sum(map(len, pieces)) > MAX_CONTEXT:
            pieces = []
        if len(question) > MAX_CONTEXT:
            raise OmniError("That is more than Primer can take in at once; please send fewer files or fewer words.")
        sequence = Sequence()
        sequence.push(vocabulary.BEGIN)
        for piece in (*pieces, question):
            sequence.append(piece)
        sequence.push(vocabulary.ASSISTANT)
        tally.tokens_in.update(count_tokens(sequence))
        return sequence, any(isinstance(part, Audio) for part in last.parts)

    def _turn(self, message: Message) -> Sequence:
        """One message as tokens, media first, as in training."""
        sequence = Sequence()
        if message.role == "user":
            sequence.push(vocabulary.USER)
            for part in sorted(message.parts, key=_reading_order):
                self._part(sequence, part)
            return sequence
        made = [part for part in message.parts if isinstance(part, (Image, Video))]
        is_story = len(made) > 1 and all(part.caption for part in made)
        sentences = [(part.caption, [part]) for part in made] if is_story else [(_words(message), made)]
        sequence.push(vocabulary.ASSISTANT)
        for words, parts in sentences:
            sequence.push(vocabulary.WRITE)
            sequence.extend(self.tokenizers.text.encode(words))
            for part in parts:
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


def load_with_experts(
    folder: Path, device: torch.device, budget: int | None, slabs: Path | None
) -> tuple[PrimerForCausalLM, Experts]:
    """The shipped model with its experts in a slab. Raises OSError, SlabError or ValueError."""
    model = shipping.skeleton(folder)
    pools = loading.pools_of(model)
    loading.take_out_experts(model)
    kernel = _kernel(pools, device)
    slab = loading.open_slab(folder, slabs or Path(tempfile.gettempdir()), pools, kernel, None, device)
    model = shipping.load(folder, model=model).to(device)
    experts = loading.hold(model, slab, kernel, device, budget)
    if at_once(budget):
        experts.bring_all()
    return model, experts


def card_of(model: PrimerForCausalLM, tokenizers: Tokenizers, experts: Experts) -> Card:
    """What Primer is, for people."""
    beside = [
        ("picture tokeniser", tokenizers.image),
        ("clip tokeniser", tokenizers.video),
        ("sound tokeniser", tokenizers.audio),
    ]
    components = components_of(model, experts, _row, beside)
    config, names = model.config, {name for name, _ in beside}
    total = sum(one.parameters for one in components if one.name not in names)
    routed, used = routed_parameters(experts)
    facts = (
        ("Parameters", f"{total / 1e6:.1f} million, of which a token uses {(total - routed + used) / 1e6:.1f} million"),
        ("Layers", f"{config.num_hidden_layers} of width {config.hidden_size}, the first of them dense"),
        ("Experts", f"{config.num_experts} a layer, {config.num_experts_per_tok} a token, and one that all share"),
        ("Vocabulary", f"{config.vocab_size:,} words, marks, picture codes and sound codes in one table"),
        ("Context", f"{MAX_CONTEXT} tokens to read"),
        ("In the file", "4 bits (NF4) for matrices, 8 for embeddings, 16 for the rest"),
        ("Licence", "Apache-2.0, weights and code"),
    )
    return Card("Primer", facts, components)


def _row(module: str) -> str:
    """Which part of Primer a module belongs to."""
    return next((row for part, row in _ROWS.items() if part in f"{module}."), "rest")


def _kernel(pools: tuple[Pool, ...], device: torch.device) -> Kernel:
    """The fastest way for a model this small: where there is no fused kernel, floats fit in any memory."""
    kernel = best_kernel([pool.shape for pool in pools], device, torch.float32)
    return Floats(torch.float32) if type(kernel) is Unpacked else kernel


def _last_seen(messages: list[Message]) -> tuple[Message, ...]:
    """The last question and its reply of which one holds a picture or a clip; empty where none does."""
    exchanges = [pair for pair in pairwise(messages) if pair[0].role == "user" and pair[1].role == "assistant"]
    shown = [pair for pair in exchanges if any(isinstance(part, (Image, Video)) for one in pair for part in one.parts)]
    return shown[-1] if shown else ()


def plan_of(wish: Wish) -> Plan:
    """What the grammar of the reply must and may hold for a user's wish."""
    seed = wish.seed if wish.seed is not None else secrets.randbelow(2**31)
    voice = wish.voice if wish.voice in vocabulary.SPEAKERS else None
    common = {"voice": voice, "temperature": wish.temperature, "seed": seed, "max_tokens": wish.max_tokens}
    if wish.outputs is None:
        return Plan(spoken=wish.aloud or None, **common)
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
