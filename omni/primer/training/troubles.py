"""What is wrong with it: blank media, questions about what is not there, and claims that may be wrong."""

from __future__ import annotations

import numpy as np

from omni.primer.training import world
from omni.primer.training.seeing import claim, premise, premise_of
from omni.primer.training.turns import Blank, Dialogue, Shown, Silence, Turn, pick
from omni.primer.training.wordings import BACKGROUND, HEARD, IS_THERE, LISTEN, SEE, WATCH, WHICH
from omni.primer.training.world import article

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


def _claim(rng: np.random.Generator) -> tuple[tuple[Shown, ...], str]:
    scene = world.scene_where(rng, lambda one: not one.other and one.count == 1)
    question, answer = claim(scene, rng)
    return (scene, question), answer


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
        question = premise_of(name, rng)
    return Dialogue((Turn((question,), NOTHING_SHOWN),))
