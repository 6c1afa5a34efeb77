"""Short stories from the picture book: a few sentences about one hero, and after each its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from omni.primer.training import world
from omni.primer.training.turns import Dialogue, Turn, pick
from omni.primer.training.wordings import STORY, STORY_OF_TWO, STORY_OF_WHAT
from omni.primer.training.world import Scene, article

MOST = 4  # sentences
Step = tuple[str, Scene]  # a sentence, and what is seen when it is over


def story(rng: np.random.Generator) -> Dialogue:
    """A story about any thing, about one that is asked for, or about two that are to meet."""
    while True:
        asked, steps = _any_story(rng)
        if not any(scene.held_out for _, scene in steps):
            break
    (opening, first), *rest = [*steps[:-1], (f"{steps[-1][0]} The end.", steps[-1][1])]
    return Dialogue((Turn((asked,), opening, first, then=tuple(rest)),))


def _any_story(rng: np.random.Generator) -> tuple[str, list[Step]]:
    background = pick(rng, tuple(world.BACKGROUNDS))
    hero = world.random_thing(rng, background)
    scene = Scene(hero, background, size=pick(rng, ("", "", "small", "big")))
    steps = [(f"Once there was {article(scene.sized)} on {background}.", scene)]
    two = rng.random() < 0.3
    if two:
        steps.append(_meet(scene, rng))
        asked = pick(rng, STORY_OF_TWO).format(article(hero.words), article(steps[-1][1].other.words))
    elif rng.random() < 0.8:
        asked = pick(rng, STORY).format(article(hero.words))
    else:
        asked = pick(rng, STORY_OF_WHAT)
    length = int(rng.integers(len(steps) + 1, MOST + 1))
    while len(steps) < length:
        steps.append(pick(rng, _events(steps[-1][1]))(steps[-1][1], rng))
    return asked, steps


def _events(scene: Scene) -> list[Callable[[Scene, np.random.Generator], Step]]:
    """What can happen next."""
    if scene.other:
        return [_travel, _travel, _night, _climb]
    if scene.count > 1:
        return [_travel, _night]
    return [_meet, _meet, _travel, _night, _go, _grow, _multiply]


def _meet(scene: Scene, rng: np.random.Generator) -> Step:
    other = world.random_other(rng, scene.thing, scene.background)
    met = Scene(scene.thing, scene.background, relation="left of", other=other)
    return f"It met {article(other.words)}.", met


def _travel(scene: Scene, rng: np.random.Generator) -> Step:
    there = _another_ground(scene, rng)
    return f"{_they(scene)} went to a place that was all {there}.", replace(scene, background=there)


def _night(scene: Scene, rng: np.random.Generator) -> Step:
    if scene.background == "black" or "black" in _colours(scene):
        return _travel(scene, rng)
    return "Then it was night and all was black.", replace(scene, background="black")


def _climb(scene: Scene, rng: np.random.Generator) -> Step:
    relation = pick(rng, [one for one in ("above", "below") if one != scene.relation])
    said = f"The {scene.thing.name} went {relation} the {scene.other.name}."
    return said, replace(scene, relation=relation)


def _go(scene: Scene, rng: np.random.Generator) -> Step:
    position = pick(rng, [one for one in world.POSITIONS if one != scene.position])
    return f"It went {position.replace('at ', 'to ', 1)}.", replace(scene, position=position)


def _grow(scene: Scene, rng: np.random.Generator) -> Step:
    size = "small" if scene.size == "big" else "big"
    return f"It became {size}.", replace(scene, size=size)


def _multiply(scene: Scene, rng: np.random.Generator) -> Step:
    count = int(rng.integers(2, 5))
    many = f"{world.NUMBERS[count]} {world.plural(scene.thing)}"
    return f"Then there were {many}.", Scene(scene.thing, scene.background, count=count)


def _they(scene: Scene) -> str:
    return "They" if scene.other or scene.count > 1 else "It"


def _colours(scene: Scene) -> set[str]:
    return {one.colour for one in (scene.thing, scene.other) if one}


def _another_ground(scene: Scene, rng: np.random.Generator) -> str:
    return pick(rng, [one for one in world.BACKGROUNDS if one != scene.background and one not in _colours(scene)])
