"""What is heard that is no speech, and asked for: notes, tunes, and the sounds of things."""

from __future__ import annotations

import numpy as np

from omni.primer.training import outside, world
from omni.primer.training.effects import EFFECTS
from omni.primer.training.sounds import NOTES, TIMBRES
from omni.primer.training.turns import Dialogue, Effect, Tone, Tune, Turn, here_is, pick, sentence
from omni.primer.training.wordings import DRAW_HEARD, ITS_SOUND, LISTEN, PLAY, SOUND_OF, WHAT_SOUNDS, WHICH_NOTES
from omni.primer.training.world import Thing, article


def tone(rng: np.random.Generator) -> Dialogue:
    """A note that is named, or played."""
    note = Tone(pick(rng, tuple(NOTES)), pick(rng, TIMBRES))
    if rng.random() < 0.5:
        return Dialogue((Turn((note, pick(rng, LISTEN)), f"I hear {note.words}."),))
    return Dialogue((Turn((pick(rng, PLAY).format(note.words),), f"Here is {note.words}.", note),))


def tune(rng: np.random.Generator) -> Dialogue:
    """Notes that are named, or played."""
    played = any_tune(rng)
    if rng.random() < 0.4:
        return Dialogue((Turn((played, pick(rng, WHICH_NOTES)), f"I hear {played.words}."),))
    return Dialogue((Turn((pick(rng, PLAY).format(played.words),), f"Here is {played.words}.", played),))


def any_tune(rng: np.random.Generator) -> Tune:
    """Two to four notes."""
    return Tune(tuple(pick(rng, tuple(NOTES)) for _ in range(rng.integers(2, 5))), pick(rng, TIMBRES))


def sound_of(rng: np.random.Generator) -> Dialogue:
    """The sound of a thing: made for its name or its picture, named, or drawn."""
    if rng.random() < 0.09:
        silent = article(pick(rng, [name for name in world.GLYPHS if name not in EFFECTS]))
        return Dialogue((Turn((pick(rng, SOUND_OF).format(silent),), outside.ANSWER),))
    name = pick(rng, tuple(EFFECTS))
    effect, kind = Effect(name), rng.random()
    if kind < 0.35:
        return Dialogue((Turn((effect, pick(rng, WHAT_SOUNDS)), f"I hear {effect.words}."),))
    scene = world.alone(Thing(name), rng)
    if kind < 0.5:
        return Dialogue((Turn((effect, pick(rng, DRAW_HEARD)), here_is(scene), scene),))
    if kind < 0.65:
        return Dialogue((Turn((scene, pick(rng, ITS_SOUND)), told(effect), effect),))
    return Dialogue((Turn((pick(rng, SOUND_OF).format(effect.words),), told(effect), effect),))


def told(effect: Effect) -> str:
    """What Primer says with the sound of a thing: "A cat meows."."""
    return sentence(f"{effect.words} {EFFECTS[effect.name][0]}")
