"""The parts of the exam: which questions each asks, who judges the answers, and what figures come of the marks.

A part is asked only of an engine that takes and gives what it needs, and the parts about Primer's own book or weights
only of Primer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from omni.exams import crossing, judging, measures, questions
from omni.exams.judging import Judge, Marks
from omni.exams.measures import Statistic
from omni.exams.probes import THINGS
from omni.exams.questions import Question
from omni.exams.student import Answer
from omni.primer.training import sounds, voices, world
from omni.primer.training.effects import EFFECTS

SEED = 2026
ENOUGH = 100  # questions, where an answer is one of few
Item = tuple[Question, ...]  # questions that are judged together
Chance = float | Callable[[list[Item]], float] | None


@dataclass(frozen=True)
class Figure:
    """How the marks of a row become its figure, and what guessing would give."""

    statistic: Statistic = measures.share
    chance: Chance = None


@dataclass(frozen=True)
class Part:
    """Questions and their judge. ``ask`` makes the items of a seed; ``judge`` one item's marks."""

    ask: Callable[[int, int], list[Item]]
    judge: Callable[[Judge, Item, list[Answer]], Marks]
    rows: dict[str, Figure]
    takes: frozenset[str]
    gives: frozenset[str] = frozenset({"text"})
    most: int | None = None  # questions
    listen_only: bool = False
    times: tuple[str, str] | None = None  # row, and the time of omni.events.Usage that it is the middle of
    of_primer: bool = False
    silent: bool = False  # nothing is answered: hidden states are compared


def rng(part: str, seed: int) -> np.random.Generator:
    """The same questions whichever parts are asked."""
    return np.random.default_rng([seed, *part.encode()])


def _single(judge: Callable[[Judge, Question, Answer], Marks]) -> Callable[[Judge, Item, list[Answer]], Marks]:
    """A judge of one question as a judge of items."""
    return lambda bench, item, answers: judge(bench, item[0], answers[0])


def _asking(part: str, ask: Callable[..., list[Question]], *options) -> Callable[[int, int], list[Item]]:
    """A function of omni.exams.questions as one that makes items."""
    return lambda seed, count: [(one,) for one in ask(rng(part, seed), count, *options)]


def _aloud(seed: int, count: int) -> list[Item]:
    """Sentences to say, each with a recording of a held-out voice for the codec."""
    other = rng("voicing", seed)
    items = []
    for question in questions.aloud(rng("speech", seed), count):
        words = world.caption(world.random_scene(other, held_out=True))
        said = voices.speak(words, questions.pick(other, voices.HELDOUT_VOICES)).samples
        items.append((Question(question.parts, question.truth, question.temperature, question.voice,
                               question.outputs, beside=said),))  # fmt: skip
    return items


def _commonest(items: list[Item]) -> float:
    """The share of the commonest answer."""
    return 100 * Counter(item[0].truth for item in items).most_common(1)[0][1] / len(items)


def _any_moment(items: list[Item]) -> float:
    """The middle error of sounds that begin anywhere."""
    generator = np.random.default_rng(0)
    events = {"bounce": (0.5, 1.5), "meet": (1.75,)}
    errors = [
        max(min(abs(generator.uniform(0, 2, len(moments)) - moment)) for moment in moments)
        for moments in events.values()
        for _ in range(500)
    ]
    return 1000 * float(np.median(errors))


def _heard(name: str, speakers: tuple[voices.Voice, ...]) -> Part:
    def judge(bench: Judge, item: Item, answers: list[Answer]) -> Marks:
        return {name: judging.heard(bench, item[0], answers[0])}

    wrong = {name: Figure(chance=100.0)}  # of a student that hears nothing
    return Part(_asking(name, questions.spoken, speakers), judge, wrong, AUDIO | IMAGE, listen_only=True)


WORDS, IMAGE, AUDIO, VIDEO = (frozenset({name}) for name in ("text", "image", "audio", "video"))
SPEECH = frozenset({"speech"})
_GROUND, _CAST = 100 / len(world.BACKGROUNDS), 100 / len(THINGS)
PARTS: dict[str, Part] = {
    "caption": Part(
        _asking("caption", questions.captions), _single(judging.caption), {"caption": Figure(chance=0.0)}, IMAGE,
        times=("first_text_s", "first_text"),
    ),
    "pictures": Part(
        _asking("pictures", questions.pictures, False), _single(judging.picture),
        {"picture_object": Figure(chance=_CAST), "picture_position": Figure(chance=100 / len(world.POSITIONS)),
         "picture_background": Figure(chance=_GROUND), "picture_count": Figure(chance=100 / 3),
         "picture_all": Figure(chance=0.0)},
        WORDS, IMAGE, times=("picture_s", "image"),
    ),
    "pictures_heldout": Part(
        _asking("pictures_heldout", questions.pictures, True), _single(judging.picture_heldout),
        {"picture_heldout_all": Figure(chance=0.0)}, WORDS, IMAGE,
    ),
    "picture_qa": Part(
        _asking("picture_qa", questions.picture_questions), _single(judging.exactly),
        {"picture_qa": Figure(chance=_commonest)}, IMAGE,
    ),
    "wer_trained": _heard("wer_trained", voices.TRAIN_VOICES),
    "wer_heldout": _heard("wer_heldout", voices.HELDOUT_VOICES),
    "speech": Part(
        _aloud, _single(judging.speech),
        {"speech_roundtrip_wer": Figure(chance=100.0), "voicing": Figure(measures.voicing),
         "speech_text_cer": Figure(measures.rate, 1.0)},
        WORDS, SPEECH, times=("first_speech_s", "first_speech"),
    ),
    "motion_named": Part(
        _asking("motion_named", questions.clips_shown), _single(judging.motion_named),
        {"motion_named": Figure(chance=100 / len(world.MOTIONS))}, VIDEO,
    ),
    "motion_generated": Part(
        _asking("motion_generated", questions.clips_asked), _single(judging.motion_generated),
        {"motion_generated": Figure(chance=_CAST / len(world.MOTIONS))}, WORDS, VIDEO, times=("clip_s", "clip"),
    ),
    "sync": Part(
        _asking("sync", crossing.events_asked), _single(judging.synchrony),
        {"sync_ms": Figure(measures.median, _any_moment)}, WORDS, VIDEO, most=ENOUGH,
    ),
    "tone_named": Part(
        _asking("tone_named", questions.tones_shown), _single(judging.tone_named),
        {"tone_named": Figure(chance=100 / len(sounds.NOTES) / len(sounds.TIMBRES))}, AUDIO, most=ENOUGH,
    ),
    "tone_generated": Part(
        _asking("tone_generated", questions.tones_asked), _single(judging.tone_generated),
        {"tone_generated": Figure(chance=100 / len(sounds.NOTES))}, WORDS, SPEECH, most=ENOUGH,
    ),
    "effect_named": Part(
        _asking("effect_named", questions.effects_heard), _single(judging.effect_named),
        {"effect_named": Figure(chance=100 / len(EFFECTS))}, AUDIO, most=ENOUGH,
    ),
    "effect_generated": Part(
        _asking("effect_generated", questions.effects_asked), _single(judging.effect_generated),
        {"effect_generated": Figure(chance=100 / len(EFFECTS))}, WORDS, SPEECH, most=ENOUGH,
    ),
    "sums": Part(
        _asking("sums", questions.sums), _single(judging.arithmetic), {"sums": Figure(chance=_commonest)}, WORDS
    ),
    "crossmodal": Part(
        lambda seed, count: crossing.same_by_all_routes(rng("crossmodal", seed), count), judging.by_all_routes,
        {"crossmodal_all": Figure(chance=0.0), "crossmodal_spread": Figure(measures.spread)},
        WORDS | AUDIO | IMAGE | VIDEO,
    ),
    "conflict": Part(
        _asking("conflict", crossing.troubled_and_sound), _single(judging.conflict), {"conflict": Figure(chance=50.0)},
        WORDS | AUDIO | IMAGE | VIDEO,
    ),
    "outside": Part(
        _asking("outside", questions.in_and_out), _single(judging.out_of_book), {"outside": Figure(chance=50.0)},
        IMAGE, most=ENOUGH, of_primer=True,
    ),
    "retrieval": Part(
        lambda seed, count: crossing.galleries(rng("retrieval", seed), count), None,
        {"retrieval_r1": Figure(chance=100 / crossing.GALLERY)}, frozenset(), of_primer=True, silent=True,
    ),
}  # fmt: skip
PART_OF = {row: name for name, part in PARTS.items() for row in part.rows}
PART_OF |= {part.times[0]: name for name, part in PARTS.items() if part.times}


def figure_of(row: str) -> Figure:
    """How a row is made."""
    return PARTS[PART_OF[row]].rows.get(row) or Figure(measures.median)
