"""Questions that cross modalities: the same one by four routes, inputs in conflict, events, one scene in all forms.

Like omni.exams.questions it knows nothing of models.
"""

from __future__ import annotations

import numpy as np

from omni.exams.questions import PICTURE_TEMPERATURE, ROOM, TEXT, Film, Picture, Question, Sound
from omni.primer.training import voices, wordings, world
from omni.primer.training.turns import pick
from omni.primer.training.world import Clip, Scene

ROUTES = ("text", "speech", "picture", "clip")
GALLERY = 100  # scenes, and as many clips, among which one is to be found
FORMS = ("text", "speech", "picture", "clip words", "clip")  # of a Found, in this order
DIRECTIONS = ((0, 2), (2, 0), (1, 2), (2, 1), (3, 4), (4, 3))  # indices of FORMS: from, to
FAINT = 5e-4  # of full scale: the noise of a microphone that hears nothing
ASKS = {"thing": ("what is it", "what is this thing"), "ground": ("what colour is the background",)}
CLAIMS = ("this is {}", "is this {}")


def same_by_all_routes(rng: np.random.Generator, count: int) -> list[tuple[Question, ...]]:
    """One thing on a background, told, spoken, drawn and moving, and the same question about it by each route.

    By turns the truth is a caption of the thing, or the background's name.
    """
    asked = []
    for index in range(count):
        clip = world.random_clip(rng, held_out=True)
        while clip.other:
            clip = world.random_clip(rng, held_out=True)
        scene = Scene(clip.thing, clip.background)
        about = tuple(ASKS)[index % 2]
        words = pick(rng, ASKS[about])
        truth = scene.thing.words if about == "thing" else scene.background
        whole = f"{world.caption(scene)} {words}"
        parts = {
            "text": (whole,), "speech": (_said(whole, rng),),
            "picture": (Picture(world.draw(scene, rng)), words), "clip": (Film(world.animate(clip, rng)[0]), words),
        }  # fmt: skip
        asked.append(tuple(Question(parts[route], truth, outputs=TEXT, route=route) for route in ROUTES))
    return asked


def _said(words: str, rng: np.random.Generator) -> Sound:
    spoken = voices.speak(words, pick(rng, voices.TRAIN_VOICES)).samples
    return Sound(voices.room(spoken, rng, ROOM, shift=False))


def troubled_and_sound(rng: np.random.Generator, count: int) -> list[Question]:
    """By turns an input that conflicts or is blank (truth: what is wrong with it) and one that is in order (empty).

    Blank are a picture, a clip and a recording; a question may ask after what the picture does not show, and a
    claim, written or spoken, may say that it shows another thing. What is in order is the same with nothing wrong.
    """
    kinds = (_picture, _clip, _recording, _premise, _written_claim, _spoken_claim)
    asked = []
    for index in range(count):
        parts, wrong = kinds[index // 2 % len(kinds)](rng, index % 2 == 0)
        asked.append(Question(parts, wrong, outputs=TEXT))
    return asked


Parts = tuple[tuple[str | Picture | Film | Sound, ...], str]


def _picture(rng: np.random.Generator, wrong: bool) -> Parts:
    picture = _blank(rng) if wrong else world.draw(world.random_scene(rng, held_out=True), rng)
    return (Picture(picture), pick(rng, wordings.SEE)), "a blank picture" * wrong


def _clip(rng: np.random.Generator, wrong: bool) -> Parts:
    shown = np.stack([_blank(rng)] * world.FRAMES)
    frames = shown if wrong else world.animate(world.random_clip(rng, held_out=True), rng)[0]
    return (Film(frames), pick(rng, wordings.WATCH)), "a blank clip" * wrong


def _recording(rng: np.random.Generator, wrong: bool) -> Parts:
    if wrong:
        sound = Sound(rng.normal(0, FAINT, int(rng.uniform(0.6, 2.0) * voices.RATE)).astype(np.float32))
    else:
        sound = _said(world.caption(world.random_scene(rng, held_out=True)), rng)
    return (sound, pick(rng, wordings.HEARD)), "silence" * wrong


def _premise(rng: np.random.Generator, wrong: bool) -> Parts:
    scene, thing = _scene_and_thing(rng, wrong)
    return (Picture(world.draw(scene, rng)), f"where is the {thing}"), f"no {thing} in it" * wrong


def _written_claim(rng: np.random.Generator, wrong: bool) -> Parts:
    scene, thing = _scene_and_thing(rng, wrong)
    words = pick(rng, CLAIMS).format(world.article(thing))
    return (Picture(world.draw(scene, rng)), words), f"not {world.article(thing)}" * wrong


def _spoken_claim(rng: np.random.Generator, wrong: bool) -> Parts:
    (picture, words), trouble = _written_claim(rng, wrong)
    return (picture, _said(words, rng)), trouble


def _scene_and_thing(rng: np.random.Generator, other: bool) -> tuple[Scene, str]:
    """One thing somewhere, and the name of it, or of another."""
    scene = world.random_scene(rng, held_out=True)
    while scene.other or scene.count > 1:
        scene = world.random_scene(rng, held_out=True)
    name = scene.thing.name
    while other and name == scene.thing.name:
        name = pick(rng, world.OBJECTS)
    return scene, name


def _blank(rng: np.random.Generator) -> np.ndarray:
    """(64, 64, 3) uint8 of one colour of the book, tinted as its backgrounds are."""
    colour = np.array(world.BACKGROUNDS[pick(rng, tuple(world.BACKGROUNDS))]) + rng.normal(0, 4, 3)
    return np.broadcast_to(colour.clip(0, 255).astype(np.uint8), (world.SIZE, world.SIZE, 3)).copy()


def events_asked(rng: np.random.Generator, count: int) -> list[Question]:
    """Make this held-out clip of a thing that bounces, or of two that meet, by turns."""
    asked = []
    for index in range(count):
        motion = ("bounce", "meet")[index % 2]
        while (clip := world.random_clip(rng, held_out=True)).motion != motion:
            pass
        words = pick(rng, wordings.FILM).format(world.clip_caption(clip))
        asked.append(Question((words,), clip, PICTURE_TEMPERATURE))
    return asked


def galleries(rng: np.random.Generator, count: int) -> list[tuple[Question, ...]]:
    """Held-out scenes and clips in all FORMS, each scene and clip once; whole galleries, so that more may come."""
    found, known = [], set()
    for _ in range(-(-count // GALLERY) * GALLERY):
        scene, clip = _new(rng, known, world.random_scene), _new(rng, known, world.random_clip)
        scene = world.canonical(scene)
        request = pick(rng, wordings.DRAW).format(world.caption(scene))
        film = pick(rng, wordings.FILM).format(world.clip_caption(clip))
        parts = (request, _said(request, rng), Picture(world.draw(scene, rng)),
                 film, Film(world.animate(clip, rng)[0]))  # fmt: skip
        found.append(
            tuple(Question((part,), truth) for part, truth in zip(parts, (*[scene] * 3, *[clip] * 2), strict=True))
        )
    return found


def _new(rng: np.random.Generator, known: set, draw) -> Scene | Clip:
    """A held-out scene or clip that is not known yet; sizes do not tell two scenes apart."""
    while True:
        one = draw(rng, held_out=True)
        key = world.canonical(one).key if isinstance(one, Scene) else one
        if key not in known:
            known.add(key)
            return one
