"""Questions after a thing that may be there or not: Primer says what it sees, then whether that is what was asked for.

The other way round ("Yes, I see a fox.") it would have to compare a word with a picture before it has said anything of
the picture. Small as it is, it never learnt that, and answered by chance; with its own words before it, it compares
words with words.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omni.primer.training import world
from omni.primer.training.turns import pick
from omni.primer.training.wordings import ABOUT, CLAIMS, IS_THERE
from omni.primer.training.world import Scene, Thing, article


def names(scene: Scene) -> list[str]:
    """What is in a scene."""
    return [thing.name for thing in (scene.thing, scene.other) if thing]


def another_name(scene: Scene, rng: np.random.Generator) -> str:
    """The name of a thing that is not in the scene."""
    while (name := pick(rng, world.OBJECTS)) in names(scene):
        pass
    return name


def view(scene: Scene, about: str = "") -> str:
    """A scene in words, as far as it matters to a question ``about`` place, size or number."""
    scene = world.canonical(scene)
    if about == "place":
        return world.caption(replace(scene, size="")).removesuffix(f" on {scene.background}")
    if scene.count > 1:
        return f"{world.NUMBERS[scene.count]} {world.plural(scene.thing)}"
    sized = scene.sized if about == "size" else scene.thing.words
    seen = [sized, *([scene.other.words] if scene.other else [])]
    return " and ".join(f"one {one}" if about == "number" else article(one) for one in seen)


def is_there(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """Whether something is in the picture; every other time it is."""
    there = rng.random() < 0.5
    name = pick(rng, names(scene)) if there else another_name(scene, rng)
    return pick(rng, IS_THERE).format(article(name)), f"I see {view(scene)}, {'yes' if there else f'no {name}'}."


def about(scene: Scene, kind: str, rng: np.random.Generator) -> tuple[str, str]:
    """A question about the place, the colour, the size or the number of what is in the picture, and its answer."""
    name = pick(rng, names(scene)) if kind == "place" else scene.thing.name
    if kind == "colour" and scene.count > 1:
        question = f"what colour are the {world.plural(Thing(name))}"
    else:
        question = _asked(name, kind, rng)
    return question, f"I see {view(scene, kind)}."


def premise(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """The same about something that is not in the picture."""
    name, kind = another_name(scene, rng), pick(rng, ("place", "place", "colour", "size", "number", "number"))
    return _asked(name, kind, rng), f"I see {view(scene, kind)}, no {name}."


def premise_of(name: str, rng: np.random.Generator) -> str:
    """Any such question."""
    return _asked(name, pick(rng, tuple(ABOUT)), rng)


def _asked(name: str, kind: str, rng: np.random.Generator) -> str:
    return pick(rng, ABOUT[kind]).format(name, world.plural(Thing(name)))


def claim(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """What somebody says that the one thing of a picture is, right in three of five, and its answer."""
    right = rng.random() < 0.6
    claimed = scene.thing.name if right else another_name(scene, rng)
    verdict = "yes" if right else f"not {article(claimed)}"
    return pick(rng, CLAIMS).format(article(claimed)), f"It is {article(scene.thing.words)}, {verdict}."
