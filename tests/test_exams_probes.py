"""The probes read ground truth that they were not fitted to; what they say of it is the exam's yardstick."""

import numpy as np
import pytest
import torch

from omni.exams import pitch, questions, reading
from omni.exams.judging import seen_in
from omni.exams.probes import FOLDER, Probes, Seen, background, scene_of
from omni.primer.training import sounds, voices, world
from omni.primer.training.world import Clip, Scene, Thing

CAT, ROCKET = Thing("cat"), Thing("rocket")
needs_font = pytest.mark.skipif(not world.FONT.exists(), reason="the emoji font is not here")
needs_espeak = pytest.mark.skipif(not voices.available(), reason="espeak-ng is not here")


@pytest.fixture(scope="module")
def probes():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Probes()
    torch.set_num_threads(before)


def test_a_probe_is_small():
    sizes = [path.stat().st_size for path in FOLDER.glob("*.safetensors")]
    assert len(sizes) == 3 and max(sizes) < 3_000_000


@needs_font
def test_held_out_pictures_are_read_in_full(probes):
    rng = np.random.default_rng(11)
    scenes = [world.random_scene(rng, held_out=True) for _ in range(60)]
    right = [seen_in(probes, world.draw(scene, rng), scene)["all"] for scene in scenes]
    assert sum(right) >= 57


@needs_font
def test_a_picture_from_outside_the_book_shows_no_scene_of_it(probes):
    rng = np.random.default_rng(12)
    scenes = [probes.things(world.unknown_picture(rng)) for _ in range(20)]
    assert sum(map(bool, scenes)) <= 4


@needs_font
def test_what_is_wrong_in_a_picture_is_told_apart(probes):
    """Guards a judge that would take any picture for the right one."""
    rng = np.random.default_rng(13)
    asked = Scene(CAT, "green", relation="above", other=ROCKET)
    swapped = seen_in(probes, world.draw(Scene(CAT, "green", relation="below", other=ROCKET), rng), asked)
    assert swapped == {"object": True, "position": False, "background": True, "count": True, "all": False}
    alone = seen_in(probes, world.draw(Scene(CAT, "blue"), rng), asked)
    assert alone == {"object": False, "position": False, "background": False, "count": False, "all": False}
    assert not any(seen_in(probes, None, asked).values())


@needs_font
@pytest.mark.parametrize("ground", world.BACKGROUNDS)
def test_the_background_is_the_colour_at_the_border(ground):
    picture = world.draw(Scene(Thing("cat"), ground, "at the top left", "big"), np.random.default_rng(14))
    assert background(picture) == ground


@pytest.mark.parametrize(("places", "scene"), [
    ([(CAT, 13, 13)], Scene(CAT, "red", "at the top left")), ([(CAT, 21, 32)], Scene(CAT, "red", "at the top")),
    ([(CAT, 17, 32), (ROCKET, 47, 30)], Scene(CAT, "red", relation="above", other=ROCKET)),
    ([(ROCKET, 30, 47), (CAT, 32, 17)], Scene(CAT, "red", relation="left of", other=ROCKET)),
    ([(CAT, 18, 32), (CAT, 46, 16), (CAT, 46, 48)], Scene(CAT, "red", count=3)),
    ([], None), ([(CAT, 18, 32), (CAT, 46, 16), (ROCKET, 46, 48)], None),
])  # fmt: skip
def test_a_scene_follows_from_where_things_are_seen(places, scene):
    assert scene_of([Seen(*place) for place in places], "red") == scene


@needs_font
def test_motions_are_read_and_the_things_that_move(probes):
    rng = np.random.default_rng(15)
    asked = [(question.parts[0].frames, question.truth) for question in questions.clips_shown(rng, 24)]
    assert sum(probes.motion(frames) == clip.motion for frames, clip in asked) >= 23
    casts = [({clip.thing, clip.other} - {None}, frames) for frames, clip in asked]
    assert sum(probes.cast(frames, len(things)) == things for things, frames in casts) >= 22


@needs_font
def test_a_clip_played_backwards_moves_the_other_way(probes):
    frames, _ = world.animate(Clip(CAT, "blue", "left"), np.random.default_rng(16))
    assert (probes.motion(frames), probes.motion(frames[::-1].copy())) == ("left", "right")


@needs_espeak
def test_the_ear_writes_down_what_primers_speakers_say(probes):
    asked = questions.aloud(np.random.default_rng(17), 20)
    heard = [probes.words(voices.speak(question.truth, voices.voice(question.voice)).samples) for question in asked]
    said = [" ".join("a" if word == "an" else word for word in question.truth.split()) for question in asked]
    pairs = list(zip(said, heard, strict=True))
    assert reading.word_error_rate(pairs) <= 6


def test_the_ear_hears_no_words_in_silence(probes):
    assert probes.words(np.zeros(16000, np.float32)) == ""


@pytest.mark.parametrize("timbre", sounds.TIMBRES)
def test_every_note_is_tracked_within_ten_cents(timbre):
    for note, hertz in sounds.NOTES.items():
        assert pitch.cents(np.array(pitch.steady_pitch(sounds.tone(note, timbre))), np.array(hertz)) < 10


def test_a_whisper_has_no_pitch():
    noise = np.random.default_rng(18).normal(0, 0.1, 16000).astype(np.float32)
    assert pitch.steady_pitch(noise) is None or pitch.track(noise)[1].mean() < 0.05
    tone = sounds.tone("a", "saw")
    right, true, made = pitch.voicing(tone, noise)
    assert right == 0 and true > 60 and made < 10


def test_a_pitch_a_semitone_off_is_voiced_and_not_right():
    true, made = sounds.tone("e", "saw"), sounds.tone("f", "saw")
    right, voiced, made_voiced = pitch.voicing(true, made)
    assert right <= 2 and voiced > 60 and made_voiced > 60
