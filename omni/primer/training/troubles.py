"""What is wrong with it: blank media, questions about what is not there, and claims that may be wrong."""

from __future__ import annotations

import numpy as np

from omni.primer.training import world
from omni.primer.training.turns import Blank, Dialogue, Shown, Silence, Turn, pick
from omni.primer.training.wordings import BACKGROUND, CLAIMS, HEARD, IS_THERE, LISTEN, PREMISES, SEE, WATCH, WHICH
from omni.primer.training.world import Scene, Thing, article

NOTHING_SHOWN = "You have shown me nothing."
NOTHING_HEARD = "I hear nothing."


def trouble(rng: np.random.Generator) -> Dialogue:
    """Something that is wrong and said to be so, or a claim that is right and confirmed."""
    kinds = (_blank, _blank, _silent, _premise, _premise, _claim, _claim, _claim, _claim)
    asked, answer = pick(rng, kinds)(rng)
    return Dialogue((Turn(asked, answer),))


def _blank(rng: np.random.Generator) -> tuple[tuple[Shown, ...], str]:
    blank = Blank(pick(rng, tuple(world.BACKGROUNDS)), moving=rng.random() < 0.5)
    return (blank, pick(rng, WATCH if blank.moving else SEE)), f"I see nothing, only {blank.background}."


def _silent(rng: np.random.Generator) -> tuple[tuple[Shown, ...], str]:
    return ((Silence(), pick(rng, HEARD)) if rng.random() < 0.7 else (Silence(),)), NOTHING_HEARD


def _premise(rng: np.random.Generator) -> tuple[tuple[Shown, ...], str]:
    scene = world.random_scene(rng)
    question, answer = premise(scene, rng)
    return (scene, question), answer


def premise(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A question about something that is not in the picture, and its answer."""
    absent = _another_name(scene, rng)
    question = pick(rng, PREMISES).format(absent, world.plural(Thing(absent)))
    return question, f"There is no {absent}, I see {_things(scene)}."


def _claim(rng: np.random.Generator) -> tuple[tuple[Shown, ...], str]:
    scene = world.random_scene(rng)
    while scene.other or scene.count > 1:
        scene = world.random_scene(rng)
    question, answer = claim(scene, rng)
    return (scene, question), answer


def claim(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """What somebody says that the one thing of a picture is, right in three of five, and its answer."""
    right = rng.random() < 0.6
    claimed = scene.thing.name if right else _another_name(scene, rng)
    answer = f"{'Yes' if right else 'No'}, it is {article(scene.thing.words)}."
    return pick(rng, CLAIMS).format(article(claimed)), answer


def nothing_shown(rng: np.random.Generator) -> Dialogue:
    """A question about a picture, a clip or a sound that was never sent."""
    kind = rng.random()
    name = pick(rng, world.OBJECTS)
    if kind < 0.1:
        return Dialogue((Turn((pick(rng, LISTEN[1:] + HEARD[:2]),), NOTHING_HEARD),))
    if kind < 0.6:
        question = pick(rng, SEE + WATCH)
    elif kind < 0.7:
        question = pick(rng, BACKGROUND + WHICH)
    elif kind < 0.8:
        question = pick(rng, IS_THERE).format(article(name))
    else:
        question = pick(rng, PREMISES).format(name, world.plural(Thing(name)))
    return Dialogue((Turn((question,), NOTHING_SHOWN),))


def _another_name(scene: Scene, rng: np.random.Generator) -> str:
    """The name of a thing that is not in the scene."""
    present = {thing.name for thing in (scene.thing, scene.other) if thing}
    while (name := pick(rng, world.OBJECTS)) in present:
        pass
    return name


def _things(scene: Scene) -> str:
    """What is in a scene, without where."""
    if scene.count > 1:
        return f"{world.NUMBERS[scene.count]} {world.plural(scene.thing)}"
    return article(scene.thing.words) + (f" and {article(scene.other.words)}" if scene.other else "")
