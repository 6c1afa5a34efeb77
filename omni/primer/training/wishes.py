"""Wishes that leave something to Primer, or ask for more than the book has: "draw an animal", "ten green cats".

What is made is always said in the book's own words, so that whoever asked loosely sees what was understood.
"""

from __future__ import annotations

import numpy as np

from omni.primer.training import outside, world
from omni.primer.training.effects import EFFECTS
from omni.primer.training.hearing import any_tune, told
from omni.primer.training.turns import Dialogue, Effect, Turn, here_is, here_is_a_clip, pick
from omni.primer.training.wordings import DRAW, FILM, TALK
from omni.primer.training.world import Clip, Scene, Thing, article

ANY_PICTURE = (
    "draw something", "draw a picture", "draw anything", "draw me something", "draw me something nice", "can you draw",
    "draw what you like", "make a picture", "show me a picture", "show me something", "surprise me", "paint something",
    "i want a picture", "can you draw something", "please draw something", "paint a picture", "make an image", "draw",
)  # fmt: skip
ANY_CLIP = (
    "make a clip", "make a video", "film something", "show me a clip", "show me a video", "a clip please",
    "animate something", "can you make a clip", "make me a video", "i want a video", "can you make videos",
)  # fmt: skip
ANY_MUSIC = (
    "play something", "play a tune", "play some music", "make music", "sing a song", "sing something", "play a song",
    "play me something", "can you sing", "can you play music", "play a melody",
)  # fmt: skip
ANY_SOUND = ("make a sound", "make a noise", "make some noise", "let me hear a sound", "play a sound", "make any sound")
ANY_WORDS = ("say something", "talk to me", "speak to me", "let me hear your voice", "can you speak", "can you talk")
KINDS = {
    "an animal": "cat dog rabbit fox bear panda tiger lion cow pig frog monkey horse elephant koala wolf camel turtle",
    "a bird": "penguin bird duck owl parrot flamingo chicken",
    "a fruit": "apple banana strawberry lemon peach cherry pineapple watermelon",
    "a vehicle": "car bus bicycle train plane rocket boat taxi tractor helicopter",
    "a plant": "tree flower cactus rose tulip leaf palm",
    "something to eat": "apple banana bread cheese pizza cake egg carrot donut candy",
    "an insect": "bee butterfly",
    "food": "bread cheese pizza cake egg mushroom carrot donut",
}
NATURAL = {  # the colour that people name though the thing has it by itself
    "red": "apple strawberry cherry tomato rose crab", "yellow": "banana lemon sun star moon cheese",
    "green": "frog cactus turtle avocado tree dinosaur snake", "gray": "elephant wolf koala",
    "white": "ghost snowman cloud", "orange": "carrot fox tiger", "pink": "pig flamingo", "blue": "whale dolphin",
}  # fmt: skip
TOO_MANY = ("five", "six", "seven", "eight", "nine", "ten", "twenty", "a hundred", "many", "a lot of")
FEWER = "Four is the most that I draw."


def open_wish(rng: np.random.Generator) -> Dialogue:
    """A wish that says less than the book, or more."""
    kind = rng.random()
    if kind < 0.14:
        scene = world.random_scene(rng)
        return _made(pick(rng, ANY_PICTURE), here_is(scene), scene)
    if kind < 0.22:
        return _filmed(pick(rng, ANY_CLIP), world.random_clip(rng))
    if kind < 0.36:
        return _heard(rng)
    if kind < 0.46:
        return Dialogue((Turn((pick(rng, (*DRAW[:-1], *FILM)).format(outside.noun(rng)),), outside.ANSWER),))
    if kind < 0.5:
        return Dialogue((Turn((pick(rng, ANY_WORDS),), pick(rng, pick(rng, TALK[:3])[1]), spoken=True),))
    if kind < 0.56:
        thing = world.random_thing(rng, "")
        return _filmed(pick(rng, FILM).format(article(thing.words)), _clip_of(thing, rng))
    wish, before, scene = pick(rng, (_of_a_kind,) * 3 + (_bare, _bare, _together, _together, _coloured, _too_many))(rng)
    return _made(pick(rng, DRAW).format(wish), before + here_is(scene), scene)


def _made(request: str, reply: str, scene: Scene) -> Dialogue:
    return Dialogue((Turn((request,), reply, scene),))


def _filmed(request: str, clip: Clip) -> Dialogue:
    return Dialogue((Turn((request,), here_is_a_clip(clip), clip),))


def _heard(rng: np.random.Generator) -> Dialogue:
    """A tune, or the sound of a thing."""
    if rng.random() < 0.6:
        tune = any_tune(rng)
        return Dialogue((Turn((pick(rng, ANY_MUSIC),), f"Here is {tune.words}.", tune),))
    effect = Effect(pick(rng, tuple(EFFECTS)))
    return Dialogue((Turn((pick(rng, ANY_SOUND),), told(effect), effect),))


Wish = tuple[str, str, Scene]  # what is asked for, what is said before the picture is named, and the picture


def _of_a_kind(rng: np.random.Generator) -> Wish:
    kind = pick(rng, tuple(KINDS))
    return kind, "", _scene_of(Thing(pick(rng, KINDS[kind].split())), rng)


def _bare(rng: np.random.Generator) -> Wish:
    """A name without its article, or more than one of it without a number."""
    thing = world.random_thing(rng, "")
    if rng.random() < 0.3:
        return world.plural(thing), "", _scene_of(thing, rng, count=int(rng.integers(2, 5)))
    return thing.words, "", _scene_of(thing, rng)


def _together(rng: np.random.Generator) -> Wish:
    """Two things, wherever they stand."""
    scene = world.scene_where(rng, lambda one: one.relation in ("left of", "right of"))
    return f"{article(scene.thing.words)} and {article(scene.other.words)}", "", scene


def _coloured(rng: np.random.Generator) -> Wish:
    """A colour that the thing has anyway, or that it cannot have."""
    colour = pick(rng, tuple(NATURAL))
    if rng.random() < 0.4:
        name, before = pick(rng, NATURAL[colour].split()), ""
    else:
        name = pick(rng, [name for name in world.GLYPHS if name not in NATURAL[colour].split()])
        before = f"{article(name).capitalize()} has its own colours. "
    return article(f"{colour} {name}"), before, _scene_of(Thing(name), rng)


def _too_many(rng: np.random.Generator) -> Wish:
    thing = world.random_thing(rng, "")
    return f"{pick(rng, TOO_MANY)} {world.plural(thing)}", f"{FEWER} ", _scene_of(thing, rng, count=4)


def _scene_of(thing: Thing, rng: np.random.Generator, count: int = 1) -> Scene:
    """A scene of the training part of the book with this thing alone, or so many of it."""
    while True:
        position = pick(rng, tuple(world.POSITIONS)) if count == 1 else "in the middle"
        scene = Scene(thing, _background(thing, rng), position, count=count)
        if not scene.held_out:
            return scene


def _clip_of(thing: Thing, rng: np.random.Generator) -> Clip:
    """A clip of the training part of the book with this thing alone."""
    while True:
        clip = Clip(thing, _background(thing, rng), pick(rng, [one for one in world.MOTIONS if one != "meet"]))
        if not clip.held_out:
            return clip


def _background(thing: Thing, rng: np.random.Generator) -> str:
    return pick(rng, [name for name in world.BACKGROUNDS if name != thing.colour])
