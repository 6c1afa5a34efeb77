"""What is said in the picture book: requests, questions, answers and follow-ups about its scenes and clips.

Every request may be spoken as well as written; a spoken one is answered aloud. Knows nothing of tokens.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omni.primer.training import outside, world
from omni.primer.training.hearing import sound_of, tone, tune
from omni.primer.training.seeing import about, claim, is_there, premise
from omni.primer.training.stories import story
from omni.primer.training.troubles import NOTHING_HEARD, nothing_shown, trouble
from omni.primer.training.turns import (
    Dialogue,
    Said,
    Sounding,
    Turn,
    Unknown,
    here_is,
    here_is_a_clip,
    pick,
    sentence,
)
from omni.primer.training.wishes import open_wish
from omni.primer.training.wordings import (
    BACKGROUND,
    COUNT_WORDS,
    DRAW,
    FILM,
    HEARD,
    SAY,
    SEE,
    TALK,
    WATCH,
    WHICH,
)
from omni.primer.training.world import Clip, Scene, Thing, article, caption, clip_caption


def uncoloured(shown: Scene | Clip) -> Scene | Clip:
    """The same without the colours of its things, for words only: "a ball" may come in any colour."""
    other = shown.other and Thing(shown.other.name)
    return replace(shown, thing=Thing(shown.thing.name), other=other)


def short(scene: Scene, rng: np.random.Generator) -> str:
    """The scene as people ask for it: often less than the full caption."""
    words = caption(uncoloured(scene) if rng.random() < 0.25 else scene)
    if rng.random() < 0.3:
        words = words.removesuffix(f" on {scene.background}")
    if scene.position in words and rng.random() < 0.25:
        words = words.replace(f" {scene.position}", "")
    if rng.random() < 0.1:
        words = words.replace(f" on {scene.background}", f" on a {scene.background} background")
    return words


# ---- the kinds of dialogue ------------------------------------------------------------------------------------------


def draw(rng: np.random.Generator, scene: Scene | None = None, full: bool = False) -> Dialogue:
    """A picture from words; asked for in ``full``, it can stand for its scene in the contrast."""
    scene = scene or world.random_scene(rng)
    full = full or rng.random() < 0.5
    request = pick(rng, DRAW).format(caption(scene) if full else short(scene, rng))
    return Dialogue((Turn((request,), here_is(scene), scene),), scene if full else None)


def describe(rng: np.random.Generator, scene: Scene | None = None) -> Dialogue:
    """A picture in words; a small or a big thing is the hardest to name, and shown more often than the others."""
    scene = scene or (world.scene_where(rng, lambda one: one.size) if rng.random() < 0.3 else world.random_scene(rng))
    request = (pick(rng, SEE),) if rng.random() < 0.9 else ()
    return Dialogue((Turn((scene, *request), f"I see {caption(world.canonical(scene))}."),), scene)


def ask(rng: np.random.Generator) -> Dialogue:
    """Questions about a picture, about a clip, or about a scene that is told in words."""
    kind = rng.random()
    if kind < 0.1:
        clip = world.random_clip(rng)
        question, answer = question_about_clip(clip, rng)
        return Dialogue((Turn((clip, question), answer),), clip)
    scene = world.random_scene(rng)
    return ask_about(scene, rng, told=kind < 0.25)


def ask_about(scene: Scene, rng: np.random.Generator, told: bool = False) -> Dialogue:
    """One to three questions about a scene that is shown, or ``told`` in words."""
    return _questions(scene, rng, pick(rng, (1, 1, 2, 3)), told)


def _questions(scene: Scene, rng: np.random.Generator, count: int, told: bool) -> Dialogue:
    turns = []
    for index in range(count):
        question, answer = any_question(scene, rng)
        asked = (f"{caption(scene)} {question}",) if told else (scene, question)
        turns.append(Turn((question,) if index else asked, answer))
    return Dialogue(tuple(turns), None if told else scene)


def quiz(rng: np.random.Generator) -> Dialogue:
    """A row of questions about one scene, mostly told: many verdicts for few tokens."""
    scene, told = world.random_scene(rng), rng.random() < 0.6
    return _questions(scene, rng, int(rng.integers(5, 11)), told)


def any_question(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A question about a picture, often after what may not be in it, and its answer."""
    kind, one = rng.random(), not scene.other and scene.count == 1
    if kind < 0.4:
        return is_there(scene, rng)
    if kind < 0.5:
        return premise(scene, rng)
    if kind < 0.55 and one:
        return claim(scene, rng)
    if kind < 0.58 and one:
        return about(scene, "number", rng)
    return question_about(scene, rng)


def question_about_clip(clip: Clip, rng: np.random.Generator) -> tuple[str, str]:
    """A question about a clip and its answer."""
    thing = clip.thing
    options = [(pick(rng, BACKGROUND), f"It is {clip.background}.")]
    if not clip.other:
        options.append((pick(rng, WHICH), f"It is {article(thing.words)}."))
        options.append((f"does the {thing.name} move", f"Yes, it {world.MOTIONS[clip.motion]}."))
        if thing.colour:
            options.append((f"what colour is the {thing.name}", f"I see {article(thing.words)}."))
    return pick(rng, options)


def question_about(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A question about a picture and its answer."""
    thing, other = scene.thing, scene.other
    questions = [(pick(rng, BACKGROUND), f"It is {scene.background}."), is_there(scene, rng)]
    if thing.colour:
        questions.append(about(scene, "colour", rng))
    if other:
        questions += [
            (f"what is {scene.relation} the {other.name}", sentence(article(thing.words))),
            about(scene, "place", rng),
            (pick(rng, ("how many things are there", "how many things do you see")), "There are two."),
        ]
    elif scene.count > 1:
        question, answer = about(scene, "number", rng)
        questions += [(pick(rng, (question, question, "how many are there", "count them")), answer)] * 3
    else:
        questions += [about(scene, "place", rng)] * 2
        questions.append((pick(rng, WHICH), f"It is {article(thing.words)}."))
        if scene.size:
            questions.append(about(scene, "size", rng))
    return pick(rng, questions)


def watch(rng: np.random.Generator, clip: Clip | None = None) -> Dialogue:
    clip = clip or world.random_clip(rng)
    return Dialogue((Turn((clip, pick(rng, WATCH)), sentence(clip_caption(clip))),), clip)


def film(rng: np.random.Generator, clip: Clip | None = None, full: bool = False) -> Dialogue:
    """A clip from words, such as "make a clip of a ball that bounces", with all there is to say of it if ``full``."""
    clip = clip or world.random_clip(rng)
    words = clip_caption(uncoloured(clip) if not full and rng.random() < 0.15 else clip)
    motion = world.MOTIONS[clip.motion]
    if rng.random() < 0.4:
        words = (
            words.replace(f" {motion}", f" that {motion}") if not clip.other else words.replace(" meet", " that meet")
        )
    if not full and rng.random() < 0.25:
        words = words.removesuffix(f" on {clip.background}")
    return Dialogue((Turn((pick(rng, FILM).format(words),), here_is_a_clip(clip), clip),), clip)


def say(rng: np.random.Generator) -> Dialogue:
    """Words read aloud."""
    words = some_words(rng)
    return Dialogue((Turn((pick(rng, SAY).format(words),), sentence(words), spoken=True),))


def some_words(rng: np.random.Generator) -> str:
    """Any words of the book."""
    kind = rng.random()
    if kind < 0.5:
        return caption(world.random_scene(rng))
    if kind < 0.7:
        return clip_caption(world.random_clip(rng))
    if kind < 0.85:
        return " ".join(pick(rng, world.OBJECTS + tuple(COUNT_WORDS)) for _ in range(rng.integers(1, 5)))
    return pick(rng, pick(rng, TALK)[0])


def heard(rng: np.random.Generator) -> Dialogue:
    """What the user said, written down."""
    words = some_words(rng)
    return Dialogue((Turn((Said(words), pick(rng, HEARD)), f"You said: {words}."),))


def talk(rng: np.random.Generator) -> Dialogue:
    """Greetings, and what lies outside the book."""
    if rng.random() < 0.4:
        asked, answers = pick(rng, TALK)
        return Dialogue((Turn((pick(rng, asked),), pick(rng, answers)),))
    return Dialogue((Turn((outside.question(rng),), outside.ANSWER),))


def add_up(rng: np.random.Generator) -> Dialogue:
    """A sum, spoken or written, or several written ones in a row; one in three has a number over ten in reach."""
    sums = [arithmetic(rng, 20 if rng.random() < 0.35 else 10) for _ in range(pick(rng, (1, 1, 3, 6)))]
    dialogue = Dialogue(tuple(Turn(*one) for one in sums))
    alone = len(sums) == 1 and speakable(dialogue)
    return aloud(dialogue, rng) if alone and rng.random() < 0.3 else dialogue


def arithmetic(rng: np.random.Generator, most: int = 10) -> tuple[tuple[str], str]:
    """A sum or a difference up to twenty of two numbers up to ``most``, in words or figures."""
    first, second = sorted(rng.integers(0, most + 1, 2).tolist(), reverse=True)
    plus = rng.random() < 0.5
    while plus and first + second >= len(COUNT_WORDS):
        first, second = sorted(rng.integers(0, most + 1, 2).tolist(), reverse=True)
    result = first + second if plus else first - second
    if plus and rng.random() < 0.5:
        first, second = second, first
    word = "plus" if plus else "minus"
    question = f"{COUNT_WORDS[first]} {word} {COUNT_WORDS[second]}"
    if rng.random() < 0.3:
        question = f"{first} {'+' if plus else '-'} {second}"
    question = pick(rng, ("what is {}", "how much is {}", "{}", "tell me {}")).format(question)
    return (question,), sentence(f"{COUNT_WORDS[first]} {word} {COUNT_WORDS[second]} is {COUNT_WORDS[result]}")


def unknown(rng: np.random.Generator) -> Dialogue:
    return Dialogue((Turn((Unknown(), pick(rng, SEE)), "I do not know what this is yet."),))


def follow_up(rng: np.random.Generator) -> Dialogue:
    """A picture, then a change of it, or a word about it; one in three is a change of what was changed before."""
    scene = world.random_scene(rng)
    if rng.random() < 0.35:
        request, changed = allowed_change(scene, rng)
        given = Turn((request,), here_is(changed), changed, given=True)
        return Dialogue((given, _next(given, changed, rng)))
    first = draw(rng, scene) if rng.random() < 0.7 else describe(rng, scene)
    if rng.random() < 0.1:
        first = _questions(scene, rng, 1, told=False)
    return Dialogue((*first.turns, _next(first.turns[0], scene, rng)), first.about)


def _next(first: Turn, scene: Scene, rng: np.random.Generator) -> Turn:
    """What can be asked for after ``first``, in which ``scene`` was seen."""
    kind = rng.random()
    if kind < 0.2:
        request = pick(rng, ("now say it", "say it", "say that aloud", "read it to me"))
        return Turn((request,), first.reply, spoken=True)
    if kind < 0.4:
        question, answer = question_about(scene, rng)
        return Turn((question,), answer)
    if kind < 0.5 and not scene.other and scene.count == 1:
        clips = [Clip(scene.thing, scene.background, motion) for motion in world.MOTIONS if motion != "meet"]
        clip = pick(rng, [clip for clip in clips if not clip.held_out])
        verb = world.MOTIONS[clip.motion]
        request = pick(rng, ("now make a clip where it {}", "make a clip where it {}", "a clip where it {}"))
        return Turn((request.format(verb),), here_is_a_clip(clip), clip)
    request, changed = allowed_change(scene, rng)
    return Turn((request,), here_is(changed), changed)


def allowed_change(scene: Scene, rng: np.random.Generator) -> tuple[str, Scene]:
    """A change whose picture is not held out."""
    while True:
        request, changed = change(scene, rng)
        if not changed.held_out:
            return request, changed


def change(scene: Scene, rng: np.random.Generator) -> tuple[str, Scene]:
    """A wish to change the picture, and the picture wished for."""
    background = pick(rng, [name for name in world.BACKGROUNDS if name not in (scene.background, scene.thing.colour)])
    if scene.other and scene.other.colour == background:
        background = "gray"
    paint = ("make it {}", "now on {}", "put it on {}", "on {} please", "make the background {}")
    options = [(pick(rng, paint).format(background), replace(scene, background=background))]
    if scene.other:
        relation = pick(rng, [one for one in world.RELATIONS if one != scene.relation])
        move = pick(rng, ("put the {} {} the {}", "move the {} {} the {}", "now the {} {} the {}"))
        options.append((move.format(scene.thing.name, relation, scene.other.name), replace(scene, relation=relation)))
    else:
        thing = world.random_thing(rng, scene.background)
        noun = article(thing.words) if scene.count == 1 else world.plural(thing)
        options.append((pick(rng, ("now {}", "make it {}", "{} instead")).format(noun), replace(scene, thing=thing)))
        count = int(rng.integers(2, 5))
        options.append((pick(rng, ("make it {}", "now {}", "i want {}")).format(world.NUMBERS[count]),
                        Scene(scene.thing, scene.background, count=count)))  # fmt: skip
    if not scene.other and scene.count == 1:
        position = pick(rng, [place for place in world.POSITIONS if place != scene.position])
        move = pick(rng, ("move it {}", "put it {}", "now {}"))
        options.append((move.format(position.replace("at ", "to ", 1)), replace(scene, position=position)))
        size, comparative = ("small", "smaller") if scene.size == "big" else ("big", "bigger")
        options.append((f"make it {pick(rng, (size, comparative))}", replace(scene, size=size)))
    return pick(rng, options)


KINDS = (  # kind, share of dialogues
    (draw, 0.14), (describe, 0.16), (ask, 0.11), (watch, 0.02), (film, 0.09), (say, 0.28), (heard, 0.04), (talk, 0.05),
    (add_up, 0.04), (tone, 0.07), (tune, 0.03), (sound_of, 0.06), (unknown, 0.005), (follow_up, 0.05),
    (trouble, 0.03), (quiz, 0.03), (story, 0.025), (open_wish, 0.12),
)  # fmt: skip
NOTHING = 0.04  # of all dialogues ask about what was never shown
SEQUEL = 0.2  # of all dialogues go on with a request that has nothing to do with the first, a quarter with small talk
SPOKEN = 0.4  # of all first requests are spoken, and answered aloud


def aloud(dialogue: Dialogue, rng: np.random.Generator) -> Dialogue:
    """The same dialogue with its written requests spoken; every reply in it is spoken too."""
    turns = []
    for turn in dialogue.turns:
        user = tuple(Said(part) if isinstance(part, str) else part for part in turn.user)
        turns.append(replace(turn, user=user, spoken=turn.spoken or (turn.made is None or rng.random() < 0.3)))
    return replace(dialogue, turns=tuple(turns))


def random_dialogue(rng: np.random.Generator) -> Dialogue:
    """A dialogue of any kind, some of them spoken."""
    if rng.random() < NOTHING:
        dialogue = nothing_shown(rng)
        heard_nothing = dialogue.turns[0].reply == NOTHING_HEARD  # never said to who speaks
        return dialogue if heard_nothing or rng.random() < 0.6 else aloud(dialogue, rng)
    dialogue = _of_any_kind(rng)
    if rng.random() < SEQUEL:
        other = talk(rng) if rng.random() < 0.25 else _of_any_kind(rng)
        return replace(dialogue, turns=(dialogue.turns[0], *other.turns[:1]))
    has_sound = any(isinstance(part, Sounding) for turn in dialogue.turns for part in turn.user)
    if not has_sound and len(dialogue.turns) == 1 and rng.random() < SPOKEN and speakable(dialogue):
        return aloud(dialogue, rng)
    if len(dialogue.turns) == 1 and rng.random() < 0.04 and not dialogue.turns[0].made:
        return replace(dialogue, turns=(replace(dialogue.turns[0], spoken=True),))  # a written question, answered aloud
    return dialogue


def _of_any_kind(rng: np.random.Generator) -> Dialogue:
    kinds, shares = zip(*KINDS, strict=True)
    return kinds[rng.choice(len(kinds), p=np.array(shares) / sum(shares))](rng)


def speakable(dialogue: Dialogue) -> bool:
    """Whether every request in it is made of plain words."""
    written = [part for turn in dialogue.turns for part in turn.user if isinstance(part, str)]
    return bool(written) and all(part.replace(" ", "").isalpha() for part in written)


def pair(rng: np.random.Generator) -> tuple[Dialogue, Dialogue]:
    """Two dialogues about one scene or clip that start with it in different modalities: told or spoken, and shown."""
    if rng.random() < 0.25:
        clip = world.random_clip(rng)
        return film(rng, clip, full=True), watch(rng, clip)
    scene = world.random_scene(rng)
    told = draw(rng, world.canonical(scene), full=True)
    shown = describe(rng, scene) if rng.random() < 0.4 else ask_about(scene, rng)
    return (aloud(told, rng) if rng.random() < 0.55 else told), shown
