"""The sounds of things: each its own, and still itself after the codec."""

import numpy as np
import pytest

from omni.exams.noises import thing_in
from omni.exams.primer import Codec
from omni.figures import ROOT
from omni.primer.processing import Tokenizers
from omni.primer.training.effects import EFFECTS, SECONDS, effect
from omni.primer.training.sounds import RATE
from omni.primer.training.voices import room
from omni.primer.training.world import OBJECTS


def test_they_are_things_of_the_book():
    assert set(EFFECTS) <= set(OBJECTS)
    assert len(EFFECTS) > 20


def test_the_same_call_gives_the_same_samples():
    assert all(np.array_equal(effect(name), effect(name)) for name in EFFECTS)
    assert all(effect(name).shape == (int(SECONDS * RATE),) and np.abs(effect(name)).max() < 0.5 for name in EFFECTS)


def test_the_codes_keep_what_makes_the_sound():
    codec = Codec(Tokenizers.load(ROOT / "omni" / "primer" / "weights"))
    assert {name: thing_in(codec.recoded(effect(name))) for name in EFFECTS} == {name: name for name in EFFECTS}


def test_played_anew_and_in_a_room_it_is_still_told_from_the_others():
    rng = np.random.default_rng(0)
    names = tuple(EFFECTS) * 4
    heard = [thing_in(room(effect(name, rng), rng, 0.5, shift=False)) for name in names]
    assert np.mean([one == name for one, name in zip(heard, names, strict=True)]) > 0.9


def test_played_anew_it_is_another_sound_of_the_same_thing():
    rng = np.random.default_rng(0)
    assert not np.array_equal(effect("cat", rng), effect("cat", rng))


def test_what_has_no_sound_is_named():
    with pytest.raises(ValueError, match="'cheese' is none of the things that have a sound"):
        effect("cheese")
