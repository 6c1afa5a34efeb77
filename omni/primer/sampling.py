"""Decoding: the grammar of a reply, sampled token by token.

The grammar always knows which range of the vocabulary comes next, so a reply cannot be malformed: after ``<image>``
exactly 64 visual codes, after a spoken word its sound, a clip frame by frame with its sound. ``reply`` yields each
token as what it is; the caller makes media of them. Closing the generator stops within one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from omni.primer import vocabulary as v
from omni.primer.modeling import KeyValueCache, PrimerForCausalLM
from omni.primer.processing import AUDIO_SPLITS, FRAME_SPAN, FRAMES, GRID, IMAGE_CODES, Sequence
from omni.primer.stepping import Stepper
from omni.primer.tokenizers.video import LATER_CODES, LATER_GRID

MAX_SENTENCES = 4  # of a story, each with its picture
MAX_WORDS = 120  # text tokens of a reply
MAX_PIECES = 8  # text tokens of one spoken word
MAX_WORD_CODES = 75  # 1.5 s for one word: more is a run-away
MAX_SOUND_CODES = 150
WORD_COOLING = 0.5  # of the temperature: a small model's second thoughts are mostly wrong
CODE_COOLING = 0.2  # of the temperature: what to draw or to say may vary, the hand and the voice are steady
FILM_TOKENS = 1 + IMAGE_CODES + (FRAMES - 1) * LATER_CODES + AUDIO_SPLITS[-1]

Kind = Literal["heard", "text", "word", "speech", "sound", "image", "film-visual", "film-audio", "mark"]


@dataclass(frozen=True)
class Token:
    """One step of a reply: its kind and its value, a text id, a code, or for "mark" an id of the vocabulary."""

    kind: Kind
    value: int


@dataclass(frozen=True)
class Plan:
    """What a reply may be. None leaves the choice to the model."""

    spoken: bool | None = None
    voice: str | None = None  # of vocabulary.SPEAKERS
    must_make: tuple[int, ...] = ()  # marks, of vocabulary.IMAGE and FILM, to be made in this order
    may_make: frozenset[int] = frozenset({v.IMAGE, v.FILM, v.AUDIO})
    temperature: float = 0.7  # 0 is greedy
    seed: int = 0
    max_tokens: int = 1200


class OutOfTokens(Exception):
    """The reply reached its limit; what came before stands."""


class Decoder:
    """A sequence and the model's state over it.

    State: the cache, the hidden state of the last token fed, and with ``watched`` the experts of each token fed, by MoE
    layer. ``read`` is called when the sequence went through the model for the first time.
    """

    def __init__(
        self,
        model: PrimerForCausalLM,
        sequence: Sequence,
        plan: Plan,
        watched: bool = False,
        read: Callable[[], object] = lambda: None,
    ):
        self.model, self.sequence, self.plan = model, sequence, plan
        self.generator = torch.Generator().manual_seed(plan.seed)
        capacity = len(sequence) + plan.max_tokens + FILM_TOKENS
        self.cache = KeyValueCache(model.config, 1, capacity, model.model.embed_tokens.weight)
        self.step = Stepper(model.model, self.cache)
        self.budget = plan.max_tokens
        self.hidden: Tensor | None = None
        self.read = read
        self.routes: list[list[list[int]]] | None = [] if watched else None

    def logits(self, group: str) -> Tensor:
        """Logits (V,) float32 over one range for the token that comes next; feeds what was not fed yet."""
        due = len(self.sequence) - self.cache.length
        if due == 1:
            self.hidden = self.step(self.sequence.ids[-1], self.sequence.positions[-1])
            if self.routes is not None:
                self.routes.append(self.step.chosen)
        elif due:
            self._feed_many()
        return self.model.head(self.hidden, v.GROUPS[group]).float()

    def _feed_many(self) -> None:
        """What was not fed yet in one pass."""
        first = self.cache.length == 0
        ids, positions = (x.to(self.model.device) for x in self.sequence.tensors(self.cache.length))
        out = self.model.model(ids, positions, self.cache)
        self.hidden = out.last_hidden_state[0, -1]
        if self.routes is not None:
            self.routes += torch.stack([layer.chosen for layer in out.routing], 1).tolist()
        if first:
            self.read()

    def choose(self, logits: Tensor, top_p: float, cooling: float) -> int:
        """Sample from logits (V,) at ``cooling`` times the plan's temperature, greedy at 0. Spends one token.

        Only the nucleus is sampled from (arXiv 1904.09751).
        """
        if self.budget <= 0:
            raise OutOfTokens
        self.budget -= 1
        temperature = cooling * self.plan.temperature
        if temperature <= 0:
            return int(logits.argmax())
        values, order = (logits / temperature).softmax(-1).cpu().sort(descending=True)
        values[(values.cumsum(0) - values) > top_p] = 0
        return int(order[torch.multinomial(values, 1, generator=self.generator)])

    def word(self, logits: Tensor) -> int:
        """Sample a piece of a word."""
        return self.choose(logits, 0.8, WORD_COOLING)

    def code(self, logits: Tensor, top_p: float) -> int:
        """Sample a code of a medium."""
        return self.choose(logits, top_p, CODE_COOLING)


def reply(decoder: Decoder, heard: bool) -> Iterator[Token]:
    """Answer the sequence, which ends with ``<assistant>``; ``heard`` where the user's turn holds sound.

    The sequence grows by what is yielded and closes with ``<end>``. Raises OutOfTokens at the plan's limit.
    """
    with torch.inference_mode():
        yield from _reply(decoder, heard)


def _reply(decoder: Decoder, heard: bool) -> Iterator[Token]:
    sequence, plan = decoder.sequence, decoder.plan
    if heard:
        sequence.push(v.HEAR)
        yield from _transcript(decoder)
    speak = plan.spoken
    if speak is None:
        speak = _greedy_mark(decoder, (v.WRITE, v.SPEAK)) == v.SPEAK
    opening = v.SPEAK if speak else v.WRITE
    for _ in range(MAX_SENTENCES):
        sequence.push(opening)
        yield Token("mark", opening)
        if speak:
            sequence.push(v.VOICE[plan.voice or v.SPEAKERS[0]])
            following = yield from _spoken_words(decoder)
        else:
            following = yield from _written_words(decoder)
        due = list(plan.must_make)
        if not due and following in plan.may_make:
            due = [following]
        for mark in due:
            yield Token("mark", mark)
            yield from _MAKERS[mark](decoder)
        if due != [v.IMAGE] or _greedy_mark(decoder, (v.END, opening)) == v.END:
            break  # only a story goes on after a picture
    sequence.push(v.END)


def _greedy_mark(decoder: Decoder, marks: tuple[int, ...]) -> int:
    """The likeliest of some marks."""
    logits = decoder.logits("text")
    return max(marks, key=lambda mark: float(logits[mark]))


def _text_logits(decoder: Decoder, marks: tuple[int, ...]) -> Tensor:
    """Logits over words and the given marks; every other mark is impossible.

    A reply that would go on with what it may not make has said its words: such a mark counts as the end.
    """
    logits = decoder.logits("text").clone()
    if v.END in marks:
        logits[v.END] = logits[[v.END, *(mark for mark in _MAKERS if mark not in marks)]].logsumexp(0)
    kept = logits[list(marks)]
    logits[v.TEXT_CODES :] = -torch.inf
    logits[list(marks)] = kept
    return logits


def _transcript(decoder: Decoder) -> Iterator[Token]:
    """What the user said, up to the mark that opens the reply; greedy, since there is one truth."""
    for _ in range(MAX_WORDS):
        token = decoder.choose(_text_logits(decoder, (v.WRITE, v.SPEAK)), 1.0, cooling=0.0)
        if token >= v.TEXT_CODES:
            return
        decoder.sequence.push(token)
        yield Token("heard", token)


def _closings(plan: Plan) -> tuple[int, ...]:
    """Marks that may follow the words of a reply."""
    return (v.END, *sorted(plan.must_make or plan.may_make))


def _written_words(decoder: Decoder) -> Iterator[Token]:
    """Words up to the mark that closes them, which is returned and not yet in the sequence."""
    closings = _closings(decoder.plan)
    for _ in range(MAX_WORDS):
        token = decoder.word(_text_logits(decoder, closings))
        if token in closings:
            return token
        decoder.sequence.push(token)
        yield Token("text", token)
    return v.END


def _spoken_words(decoder: Decoder) -> Iterator[Token]:
    """Words, each with its sound, up to the mark that closes them, which is returned."""
    closings = tuple(mark for mark in _closings(decoder.plan) if mark != v.AUDIO)
    for _ in range(MAX_WORDS):
        token = decoder.word(_text_logits(decoder, closings))
        if token in closings:
            return token
        pieces = 0
        while token != v.AUDIO and pieces < MAX_PIECES:
            decoder.sequence.push(token)
            yield Token("word", token)
            pieces += 1
            token = decoder.word(_text_logits(decoder, (v.AUDIO,)))
        yield from _audio(decoder, "speech", MAX_WORD_CODES)
    return v.END


def _audio(decoder: Decoder, kind: Kind, limit: int) -> Iterator[Token]:
    """A stretch of sound of at most ``limit`` codes, between its marks."""
    decoder.sequence.push(v.AUDIO)
    for _ in range(limit):
        code = decoder.code(decoder.logits("audio"), top_p=0.9)
        if code == v.AUDIO_CODES:
            break
        decoder.sequence.push(v.AUDIO_START + code)
        yield Token(kind, code)
    decoder.sequence.push(v.AUDIO_END)


def _sound(decoder: Decoder) -> Iterator[Token]:
    yield from _audio(decoder, "sound", MAX_SOUND_CODES)


def _image(decoder: Decoder) -> Iterator[Token]:
    """64 codes."""
    decoder.sequence.push(v.IMAGE)
    yield from _grid(decoder, "image", GRID, top_p=0.95)
    decoder.sequence.line += GRID


def _grid(decoder: Decoder, kind: Kind, side: int, top_p: float) -> Iterator[Token]:
    """side x side visual codes."""
    for index in range(side * side):
        code = decoder.code(decoder.logits("visual"), top_p)
        decoder.sequence.push_visual(code, index, side)
        yield Token(kind, code)


def _film(decoder: Decoder) -> Iterator[Token]:
    """Frame by frame: its visual codes, then its share of the sound."""
    sequence = decoder.sequence
    sequence.push(v.FILM)
    for frame in range(FRAMES):
        yield from _grid(decoder, "film-visual", LATER_GRID if frame else GRID, top_p=0.9)
        start = sequence.line
        for _ in range(AUDIO_SPLITS[frame], AUDIO_SPLITS[frame + 1]):
            code = decoder.code(decoder.logits("audio")[: v.AUDIO_CODES], top_p=0.9)
            sequence.push(v.AUDIO_START + code)
            yield Token("film-audio", code)
        sequence.line = start + FRAME_SPAN


_MAKERS = {v.IMAGE: _image, v.FILM: _film, v.AUDIO: _sound}
