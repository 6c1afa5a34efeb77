"""When something is seen and when it is heard is read from pictures and samples that the test makes."""

import numpy as np
import pytest

from omni.exams import sync
from omni.primer.training import sounds, world
from omni.primer.training.world import Clip, Thing

CAT, ROCKET = Thing("cat"), Thing("rocket")
CLIPS = {"bounce": Clip(CAT, "green", "bounce"), "meet": Clip(CAT, "green", "meet", ROCKET)}
needs_font = pytest.mark.skipif(not world.FONT.exists(), reason="the emoji font is not here")


@needs_font
@pytest.mark.parametrize("motion", CLIPS)
@pytest.mark.parametrize("late", [0.0, 0.1, 0.2])
def test_a_sound_that_comes_late_is_measured(motion, late):
    frames, events = world.animate(CLIPS[motion], np.random.default_rng(1))
    track = sounds.motion_sound(motion, 2.0, [event + late for event in events])
    assert sync.error_ms(frames, 0.25, track, motion) == pytest.approx(1000 * late, abs=10)


@needs_font
@pytest.mark.parametrize("motion", CLIPS)
def test_what_is_not_there_is_missing(motion):
    frames, events = world.animate(CLIPS[motion], None)
    track = sounds.motion_sound(motion, 2.0, events)
    assert sync.error_ms(np.stack([frames[0]] * 8), 0.25, track, motion) == sync.MISSING
    assert sync.error_ms(frames[:, :, :8, :].copy(), 0.25, track, motion) == sync.MISSING
    assert sync.error_ms(frames, 0.25, np.zeros(32000, np.float32), motion) == sync.MISSING
    assert sync.error_ms(frames, 0.25, np.zeros(0, np.float32), motion) == sync.MISSING


@needs_font
def test_another_motion_has_no_such_events():
    for motion in ("left", "up", "spin"):
        frames, _ = world.animate(Clip(CAT, "green", motion), None)
        track = sounds.motion_sound(motion, 2.0)
        assert sync.error_ms(frames, 0.25, track, "bounce") > 150


def test_a_steady_hum_begins_once():
    assert len(sync.heard_at(sounds.motion_sound("left"))) == 1
