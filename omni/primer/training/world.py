"""The picture book: scenes and clips of emoji, drawn on demand, endless and seeded.

A Scene or a Clip is a description; ``draw`` and ``animate`` make pixels of it, ``caption`` words. One scene in
twenty is held out by the hash of its content, so that the exam asks for combinations that training never showed.
Knows nothing of tokens or of speech.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")  # Debian: fonts-noto-color-emoji
FONT_SIZE = 109  # the only size of the bitmap font
SIZE = 64  # pixels
FPS = 4
FRAMES = 8

_BOOK = """
cat 🐱, dog 🐶, rabbit 🐰, fox 🦊, bear 🐻, panda 🐼, tiger 🐯, lion 🦁, cow 🐮, pig 🐷,
frog 🐸, monkey 🐵, penguin 🐧, bird 🐦, duck 🦆, owl 🦉, horse 🐴, bee 🐝, butterfly 🦋,
snail 🐌, turtle 🐢, snake 🐍, octopus 🐙, crab 🦀, fish 🐠, whale 🐳, apple 🍎, banana 🍌,
strawberry 🍓, carrot 🥕, bread 🍞, cheese 🧀, pizza 🍕, cake 🍰, egg 🥚, mushroom 🍄,
car 🚗, bus 🚌, bicycle 🚲, train 🚂, plane ✈, rocket 🚀, boat ⛵, tree 🌳, flower 🌻,
sun 🌞, moon 🌙, star ⭐, cloud ☁, snowman ⛄, cactus 🌵, house 🏠, key 🔑, clock ⏰,
bell 🔔, guitar 🎸, umbrella ☔, ghost 👻, robot 🤖, gift 🎁,
elephant 🐘, koala 🐨, wolf 🐺, chicken 🐔, camel 🐫, shark 🦈, dolphin 🐬, dinosaur 🦕, unicorn 🦄,
parrot 🦜, flamingo 🦩, hedgehog 🦔, lemon 🍋, peach 🍑, cherry 🍒, pineapple 🍍, watermelon 🍉,
tomato 🍅, avocado 🥑, donut 🍩, candy 🍬, cup ☕, taxi 🚕, tractor 🚜, helicopter 🚁, balloon 🎈,
rose 🌹, tulip 🌷, leaf 🍁, palm 🌴, rainbow 🌈, fire 🔥, volcano 🌋, castle 🏰, lamp 💡, candle 🕯,
drum 🥁, hammer 🔨, pencil ✏, magnet 🧲
"""
GLYPHS = dict(entry.split() for entry in _BOOK.split(","))
_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
COLOURED = {  # things that come in colours, each colour its own glyph
    "ball": dict(zip(_COLOURS, "🔴🟠🟡🟢🔵🟣⚫⚪", strict=True)),
    "block": dict(zip(_COLOURS, "🟥🟧🟨🟩🟦🟪⬛⬜", strict=True)),
    "heart": dict(zip(_COLOURS, "❤🧡💛💚💙💜🖤🤍", strict=True)),
    "book": {"red": "📕", "green": "📗", "blue": "📘", "orange": "📙"},
}
OBJECTS = (*GLYPHS, *COLOURED)
PLURALS = {"fish": "fish", "butterfly": "butterflies", "strawberry": "strawberries", "bus": "buses"}
PLURALS |= {"octopus": "octopuses", "fox": "foxes", "cactus": "cactuses", "wolf": "wolves", "leaf": "leaves"}
PLURALS |= {"peach": "peaches", "cherry": "cherries", "candy": "candies", "tomato": "tomatoes"}
NUMBERS = ("zero", "one", "two", "three", "four")
BACKGROUNDS = {
    "white": (245, 245, 242),
    "black": (24, 24, 28),
    "gray": (140, 142, 146),
    "green": (70, 160, 84),
    "blue": (62, 110, 205),
    "yellow": (244, 212, 84),
    "pink": (246, 160, 190),
    "brown": (130, 88, 58),
}
POSITIONS = {  # row and column of the 3 x 3 grid
    "at the top left": (0, 0),
    "at the top": (0, 1),
    "at the top right": (0, 2),
    "at the left": (1, 0),
    "in the middle": (1, 1),
    "at the right": (1, 2),
    "at the bottom left": (2, 0),
    "at the bottom": (2, 1),
    "at the bottom right": (2, 2),
}
RELATIONS = ("above", "below", "left of", "right of")
OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
SIZES = {"small": 17, "": 27, "big": 42}  # pixels in a picture of SIZE
MOTIONS = {
    "left": "moves left", "right": "moves right", "up": "moves up", "down": "moves down",
    "bounce": "bounces", "spin": "spins", "grow": "grows", "meet": "meet",
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """An object of the book and, where it can take one, its colour."""

    name: str
    colour: str = ""

    @property
    def words(self) -> str:
        return f"{self.colour} {self.name}".strip()

    @property
    def glyph(self) -> str:
        return COLOURED[self.name][self.colour] if self.colour else GLYPHS[self.name]


@dataclass(frozen=True)
class Scene:
    """One thing at a position, ``count`` of one thing, or two things in a relation, on a background."""

    thing: Thing
    background: str
    position: str = "in the middle"
    size: str = ""
    count: int = 1
    relation: str = ""
    other: Thing | None = None

    @property
    def sized(self) -> str:
        """The first thing in words, with its size where that is told."""
        return f"{self.size} {self.thing.words}".strip()

    @property
    def key(self) -> str:
        """What makes this scene a combination of its own."""
        other = self.other.words if self.other else ""
        return f"{self.thing.words}|{self.background}|{self.position}|{self.count}|{self.relation}|{other}"

    @property
    def held_out(self) -> bool:
        return zlib.crc32(canonical(self).key.encode()) % 20 == 0


@dataclass(frozen=True)
class Clip:
    """Two seconds of one thing that moves, or of two that meet."""

    thing: Thing
    background: str
    motion: str
    other: Thing | None = None

    @property
    def held_out(self) -> bool:
        other = self.other.words if self.other else ""
        return zlib.crc32(f"{self.thing.words}|{self.background}|{self.motion}|{other}".encode()) % 20 == 0


def article(words: str) -> str:
    """``words`` with the right indefinite article."""
    sounds_open = words[0] in "aeiou" and not words.startswith("uni")
    return f"{'an' if sounds_open else 'a'} {words}"


def plural(thing: Thing) -> str:
    """More than one of a thing, in words."""
    name = PLURALS.get(thing.name, thing.name + "s")
    return f"{thing.colour} {name}".strip()


def caption(scene: Scene) -> str:
    """The scene in full, in the book's own words: "a big cat at the top left on green"."""
    if scene.other:
        words = f"{article(scene.thing.words)} {scene.relation} {article(scene.other.words)}"
    elif scene.count > 1:
        words = f"{NUMBERS[scene.count]} {plural(scene.thing)}"
    else:
        words = f"{article(scene.sized)} {scene.position}"
    return f"{words} on {scene.background}"


def clip_caption(clip: Clip) -> str:
    """The clip in full: "a cat spins on blue"."""
    if clip.other:
        return f"{article(clip.thing.words)} and {article(clip.other.words)} meet on {clip.background}"
    return f"{article(clip.thing.words)} {MOTIONS[clip.motion]} on {clip.background}"


def random_thing(rng: np.random.Generator, background: str) -> Thing:
    """Any thing of the book that can be seen on ``background``."""
    name = OBJECTS[rng.integers(len(OBJECTS))]
    if name not in COLOURED:
        return Thing(name)
    colours = [colour for colour in COLOURED[name] if colour != background]
    return Thing(name, colours[rng.integers(len(colours))])


def random_other(rng: np.random.Generator, thing: Thing, background: str) -> Thing:
    """The same, with another name than ``thing``."""
    while (other := random_thing(rng, background)).name == thing.name:
        pass
    return other


def random_scene(rng: np.random.Generator, held_out: bool = False) -> Scene:
    """A scene from the training part of the book, or from the held-out part."""
    while True:
        scene = _any_scene(rng)
        if scene.held_out == held_out:
            return scene


def scene_where(rng: np.random.Generator, fits: Callable[[Scene], object]) -> Scene:
    """A scene of the training part of the book that ``fits``."""
    while not fits(scene := random_scene(rng)):
        pass
    return scene


def alone(thing: Thing, rng: np.random.Generator) -> Scene:
    """The thing by itself, in the middle of a background of the training part of the book."""
    scenes = [Scene(thing, background, "in the middle") for background in BACKGROUNDS if background != thing.colour]
    scenes = [scene for scene in scenes if not scene.held_out]
    return scenes[rng.integers(len(scenes))]


def _any_scene(rng: np.random.Generator) -> Scene:
    background = list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
    thing = random_thing(rng, background)
    kind = rng.random()
    if kind < 0.4:  # one thing somewhere
        size = ("", "", "small", "big")[rng.integers(4)]
        return Scene(thing, background, list(POSITIONS)[rng.integers(9)], size)
    if kind < 0.6:
        return Scene(thing, background, count=int(rng.integers(2, 5)))
    other = random_other(rng, thing, background)
    return Scene(thing, background, relation=RELATIONS[rng.integers(4)], other=other)


def random_clip(rng: np.random.Generator, held_out: bool = False) -> Clip:
    """A clip from the training part of the book, or from the held-out part."""
    while True:
        background = list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
        thing = random_thing(rng, background)
        motion = list(MOTIONS)[rng.integers(len(MOTIONS))]
        other = random_other(rng, thing, background) if motion == "meet" else None
        clip = Clip(thing, background, motion, other)
        if clip.held_out == held_out:
            return clip


def canonical(scene: Scene) -> Scene:
    """The same picture described in one way: of two relations that say the same, "above" and "left of"."""
    if scene.other and scene.relation in ("below", "right of"):
        return replace(scene, thing=scene.other, other=scene.thing, relation=OPPOSITE[scene.relation])
    return scene


_given: dict[str, Image.Image] = {}


def use_glyphs(images: dict[str, Image.Image]) -> None:
    """Draw with these images instead of the font, which need not be there then."""
    _given.update(images)
    glyph_image.cache_clear()
    _sprite.cache_clear()


def glyphs() -> list[str]:
    """The characters of all things of the book."""
    return [*GLYPHS.values(), *(glyph for colours in COLOURED.values() for glyph in colours.values())]


@cache
def glyph_image(character: str) -> Image.Image:
    """The glyph, RGBA, cropped to its ink and centred in a square."""
    if character in _given:
        return _given[character]
    font = ImageFont.truetype(str(FONT), FONT_SIZE)
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((8, 8), character, font=font, embedded_color=True)
    ink = canvas.crop(canvas.getbbox())
    side = max(ink.size)
    square = Image.new("RGBA", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square


@lru_cache(maxsize=4096)
def _sprite(character: str, pixels: int, angle: int = 0) -> np.ndarray:
    """(pixels, pixels, 4) float32, 0..1, turned by ``angle`` degrees."""
    glyph = glyph_image(character)
    if angle:
        glyph = glyph.rotate(angle, Image.Resampling.BICUBIC)
    small = glyph.resize((pixels, pixels), Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32) / 255


def _paste(canvas: np.ndarray, thing: Thing, pixels: float, row: float, column: float, angle: int = 0) -> None:
    """Blend a thing of ``pixels`` width into ``canvas`` (H, W, 3), centred at (row, column), kept inside."""
    side = canvas.shape[0]
    pixels = int(round(min(pixels, side)))
    sprite = _sprite(thing.glyph, pixels, angle)
    top = int(np.clip(round(row - pixels / 2), 0, side - pixels))
    left = int(np.clip(round(column - pixels / 2), 0, side - pixels))
    patch = canvas[top : top + pixels, left : left + pixels]
    alpha = sprite[..., 3:]
    patch += alpha * (sprite[..., :3] * 255 - patch)


def ground(background: str, size: int, rng: np.random.Generator | None) -> np.ndarray:
    """A background of one colour; with ``rng`` tinted a little and lighter at one side."""
    if rng is None:
        return np.broadcast_to(np.asarray(BACKGROUNDS[background], np.float32), (size, size, 3))
    colour = np.asarray(BACKGROUNDS[background], np.float32) + rng.normal(0, 4, 3)
    slope = np.linspace(-1, 1, size, dtype=np.float32)[:, None, None] * rng.normal(0, 4)
    return np.broadcast_to(colour, (size, size, 3)) + slope


def draw(scene: Scene, rng: np.random.Generator | None, size: int = SIZE) -> np.ndarray:
    """The picture of a scene, (size, size, 3) uint8: as people's pictures vary, or without ``rng`` as Primer draws."""
    canvas = ground(scene.background, size, rng).astype(np.float32)
    scale = size / SIZE
    for thing, pixels, row, column in placements(scene):
        if rng is not None:
            row, column = row + rng.normal(0, 1.0), column + rng.normal(0, 1.0)
            pixels = pixels * rng.uniform(0.95, 1.05)
        _paste(canvas, thing, pixels * scale, row * scale, column * scale)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def placements(what: Scene | Clip) -> list[tuple[Thing, float, float, float]]:
    """Thing, pixels, row and column of everything in a scene, or in a clip's first frame, in a picture of SIZE.

    Places of things of one size lie whole codes of the picture tokeniser (8 pixels) apart, so that a thing has the same
    codes wherever it stands, and what was learnt of it at one place holds at all others.
    """
    if isinstance(what, Clip):
        return [placed[:4] for placed in moment(what, 0.0)]
    scene = what
    if scene.other:
        first, second = {
            "above": ((16, 32), (48, 32)), "below": ((48, 32), (16, 32)),
            "left of": ((32, 16), (32, 48)), "right of": ((32, 48), (32, 16)),
        }[scene.relation]  # fmt: skip
        return [(scene.thing, 26, *first), (scene.other, 26, *second)]
    if scene.count > 1:
        spots = {2: ((32, 16), (32, 48)), 3: ((16, 32), (48, 16), (48, 48)),
                 4: ((16, 16), (16, 48), (48, 16), (48, 48))}[scene.count]  # fmt: skip
        return [(scene.thing, 22, *spot) for spot in spots]
    row, column = POSITIONS[scene.position]
    pixels = SIZES[scene.size]
    reach = 8 if scene.size == "big" else 16  # how far from the middle a thing of this size can go
    return [(scene.thing, pixels, 32 + (row - 1) * reach, 32 + (column - 1) * reach)]


def animate(clip: Clip, rng: np.random.Generator | None, size: int = SIZE) -> tuple[np.ndarray, list[float]]:
    """The frames of a clip, (FRAMES, size, size, 3) uint8, and the seconds of its events; ``rng`` as in ``draw``."""
    plain = ground(clip.background, size, rng).astype(np.float32)
    scale, jitter = size / SIZE, (0.0, 0.0) if rng is None else rng.normal(0, 1.5, 2)
    frames, events = [], _event_times(clip.motion)
    for index in range(FRAMES):
        canvas = plain.copy()
        for thing, pixels, row, column, angle in moment(clip, index / (FRAMES - 1)):
            _paste(canvas, thing, pixels * scale, (row + jitter[0]) * scale, (column + jitter[1]) * scale, angle)
        frames.append(np.clip(canvas, 0, 255).astype(np.uint8))
    return np.stack(frames), events


def _event_times(motion: str) -> list[float]:
    """Seconds at which something is heard: the ball is down, the two touch."""
    step = 1 / FPS
    return {"bounce": [2 * step, 6 * step], "meet": [(FRAMES - 1) * step]}.get(motion, [])


def moment(clip: Clip, t: float) -> list[tuple[Thing, float, float, float, int]]:
    """Thing, pixels, row, column and angle of everything in the clip at ``t`` in 0..1."""
    if clip.motion == "meet":
        return [(clip.thing, 22, 32, 12 + 10 * t, 0), (clip.other, 22, 32, 52 - 10 * t, 0)]
    if clip.motion == "spin":
        return [(clip.thing, 34, 32, 32, -int(round(t * (FRAMES - 1))) * 45 % 360)]
    if clip.motion == "grow":
        return [(clip.thing, 12 + 36 * t, 32, 32, 0)]
    if clip.motion == "bounce":  # down at a quarter and three quarters of the two seconds
        height = abs(np.cos(np.pi * t * (FRAMES - 1) / 4))
        return [(clip.thing, 24, 48 - 32 * height, 32, 0)]
    far = 16 + 32 * t
    row, column = {"left": (32, 64 - far), "right": (32, far), "up": (64 - far, 32), "down": (far, 32)}[clip.motion]
    return [(clip.thing, 26, row, column, 0)]


def unknown_picture(rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """A picture from outside the book, blurred noise of many scales as photographs have: (size, size, 3) uint8."""
    field = np.zeros((size, size, 3), np.float32)
    for cells in (2, 4, 8, 16, 32):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32)
        field += smooth * (rng.random() / cells**0.5)
    field = (field - field.mean()) / (field.std() + 1e-3)
    return np.clip(field * rng.uniform(30, 70) + rng.uniform(70, 180, 3), 0, 255).astype(np.uint8)
