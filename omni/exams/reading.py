"""Judging words by what they say: a caption is read back into the scene, clip or tone that it describes.

The grammar is the book's own and strict: what it cannot read is wrong. "A cat above a rocket" and "a rocket below a
cat" are the same scene; the size of a thing is read and not counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from omni.exams.probes import THINGS
from omni.primer.tokenizers.text import normalise
from omni.primer.training import world
from omni.primer.training.sounds import NOTES, TIMBRES
from omni.primer.training.turns import Tone
from omni.primer.training.wordings import COUNT_WORDS
from omni.primer.training.world import Clip, Scene, Thing

_ONE = {thing.words: thing for thing in THINGS}
_MANY = {world.plural(thing): thing for thing in THINGS}
_VERBS = {words: motion for motion, words in world.MOTIONS.items()}
_COUNTS = {word: count for count, word in enumerate(world.NUMBERS) if count > 1}


def _any_of(words: Iterable[str]) -> str:
    return "(" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + ")"


_A_THING = f"an? {_any_of(_ONE)}"
_GROUND = f"on {_any_of(world.BACKGROUNDS)}"
_SIZE = _any_of(size for size in world.SIZES if size)
_SOMEWHERE = re.compile(f"an? (?:{_SIZE} )?{_any_of(_ONE)} {_any_of(world.POSITIONS)} {_GROUND}")
_SEVERAL = re.compile(f"{_any_of(_COUNTS)} {_any_of(_MANY)} {_GROUND}")
_TWO = re.compile(f"{_A_THING} {_any_of(world.RELATIONS)} {_A_THING} {_GROUND}")
_MOVING = re.compile(f"{_A_THING} {_any_of(words for words in _VERBS if words != 'meet')} {_GROUND}")
_MEETING = re.compile(f"{_A_THING} and {_A_THING} meet {_GROUND}")
_NAMED = re.compile(rf"\b{_any_of(_ONE)}\b")
_ITS_GROUND = re.compile(rf"(?:^|\b(?:is|on|a|an) )(?:plain )?{_any_of(world.BACKGROUNDS)}(?= background|[.,!]|$)")
_DENIES = re.compile(
    r"\b(?:no|not|nothing|none|nobody|neither|cannot|empty|blank|silent|silence|unclear)\b|n't\b|\bonly a plain\b"
)
_BEYOND = ("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand")
_SOUNDING = re.compile(f"an? {_any_of(NOTES)} on an? {_any_of(TIMBRES)}")


def claim(reply: str, opening: str = "") -> str:
    """What a reply claims: without ``opening``, full stop and capital; empty where it does not open so."""
    if not reply.startswith(opening):
        return ""
    words = reply.removeprefix(opening).strip().removesuffix(".")
    return words[:1].lower() + words[1:]


def scene(words: str) -> Scene | None:
    """A caption such as "a red ball above a cat on white" as the scene that it describes."""
    if found := _SOMEWHERE.fullmatch(words):
        size, thing, position, ground = found.groups()
        return Scene(_ONE[thing], ground, position, size or "")
    if found := _SEVERAL.fullmatch(words):
        count, things, ground = found.groups()
        return Scene(_MANY[things], ground, count=_COUNTS[count])
    if found := _TWO.fullmatch(words):
        thing, relation, other, ground = found.groups()
        return Scene(_ONE[thing], ground, relation=relation, other=_ONE[other])
    return None


def clip(words: str) -> Clip | None:
    """A clip's caption such as "a dog spins on blue" as the clip that it describes."""
    if found := _MOVING.fullmatch(words):
        thing, verb, ground = found.groups()
        return Clip(_ONE[thing], ground, _VERBS[verb])
    if found := _MEETING.fullmatch(words):
        thing, other, ground = found.groups()
        return Clip(_ONE[thing], ground, "meet", _ONE[other])
    return None


def tone(words: str) -> Tone | None:
    """Words such as "an a on a bell" as a tone."""
    found = _SOUNDING.fullmatch(words)
    return Tone(*found.groups()) if found else None


def same_scene(one: Scene | None, other: Scene | None) -> bool:
    """Same things, colours, count, background, and position or relation; sizes are not compared."""
    return one is not None and other is not None and world.canonical(one).key == world.canonical(other).key


def slots(scene: Scene) -> tuple[Thing, ...]:
    """The things of a scene as they stand, from above or from the left; one of several stands for all."""
    scene = world.canonical(scene)
    return (scene.thing, scene.other) if scene.other else (scene.thing,)


def count_words(words: str) -> int:
    """How many words were said."""
    return len(normalise(words).split())


def word_errors(said: str, heard: str) -> int:
    """Words to insert, delete or replace to get from one to the other."""
    return edits(normalise(said).split(), normalise(heard).split())


def edits(one: Sequence, other: Sequence) -> int:
    """Items to insert, delete or replace to get from one to the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for deleted, item in enumerate(one, 1):
        diagonal, row[0] = row[0], deleted
        for at, against in enumerate(other, 1):
            diagonal, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, diagonal + (item != against))
    return row[-1]


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Errors over words said, of all (said, heard) together, in percent."""
    pairs = list(pairs)
    return 100 * sum(word_errors(*pair) for pair in pairs) / max(1, sum(count_words(said) for said, _ in pairs))


def numbers(words: str) -> list[int]:
    """The numbers up to twenty in words or figures, in their order; -1 for any other figure."""
    known = "|".join(sorted((*COUNT_WORDS, *_BEYOND), key=len, reverse=True))
    found = re.findall(rf"\b(?:\d+|{known})\b", words.lower())
    return [COUNT_WORDS.index(one) if one in COUNT_WORDS else int(one) if len(one) < 3 else -1 for one in found]


def same_sum(words: str, truth: str) -> bool:
    """The result of ``truth``, "Two plus three is five.", alone or after its two numbers."""
    found, true = numbers(words), numbers(truth)
    return found in (true, true[-1:])


def answers(words: str, truth: str) -> bool:
    """Whether a reply gives ``truth``, a background or a thing, and no other of its kind."""
    words = words.lower()
    if truth in world.BACKGROUNDS:
        return set(_ITS_GROUND.findall(words)) == {truth}
    return set(_NAMED.findall(words)) == {truth}


def says_so(words: str) -> bool:
    """Whether a reply says that something is missing, wrong or not known."""
    return _DENIES.search(words.lower().replace("\u2019", "'")) is not None
