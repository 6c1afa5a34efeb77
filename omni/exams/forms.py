"""The forms in which the picture book answers, added to a question for an engine that has not read it."""

from __future__ import annotations

from omni.primer.training import sounds, world
from omni.primer.training.effects import EFFECTS

_THING = (
    f"THING is one of {', '.join(world.GLYPHS)}, or one with its colour: "
    + ", ".join(f"{name} ({', '.join(colours)})" for name, colours in world.COLOURED.items())
    + "."
)
_GROUND = f"COLOUR is one of {', '.join(world.BACKGROUNDS)}."
_ONLY = "Answer in this form and say nothing else:"

SCENE = (
    f"{_ONLY} 'I see a THING PLACE on COLOUR.', or 'I see NUMBER THINGS on COLOUR.', or "
    f"'I see a THING above a THING on COLOUR.', or 'I see a THING left of a THING on COLOUR.' COLOUR is the ground. "
    f"{_THING} PLACE is one of {', '.join(world.POSITIONS)}. NUMBER is two, three or four. {_GROUND}"
)
CLIP = (
    f"{_ONLY} 'A THING MOTION on COLOUR.', or 'A THING and a THING meet on COLOUR.' COLOUR is the background. {_THING} "
    f"MOTION is one of {', '.join(words for name, words in world.MOTIONS.items() if name != 'meet')}. {_GROUND}"
)
TONE = (
    f"{_ONLY} 'I hear a NOTE on a TIMBRE.' NOTE is one of {', '.join(sounds.NOTES)}, where c is middle c. "
    f"TIMBRE is one of {', '.join(sounds.TIMBRES)}."
)
EFFECT = f"{_ONLY} 'I hear a THING.' THING is one of {', '.join(EFFECTS)}."
ANSWER = (
    "Answer with one short sentence, in words. Of a background 'It is COLOUR.', of what a thing is 'It is a THING.', "
    "of what stands beside another 'A THING.', of how many things 'There are two.' Else say what you see: 'I see a "
    "THING and a THING.', 'I see NUMBER THINGS.', of a place 'I see a THING PLACE.' or 'I see a THING above a THING.' "
    "or 'I see a THING left of a THING.', of a size 'I see a big THING.' Where you are asked whether something is "
    "there, end it with ', yes.' or ', no THING.' "
    f"{_THING} PLACE is one of {', '.join(world.POSITIONS)}. {_GROUND}"
)
