"""An engine examined through its protocol: the scripted one, which measures what it is shown."""

from __future__ import annotations

import numpy as np
import pytest
from fake_engine import FakeEngine
from media_files import tone

from omni.exams.distant import DistantStudent
from omni.exams.questions import Film, Picture, Question, Sound


@pytest.fixture
def student() -> DistantStudent:
    return DistantStudent(FakeEngine())


def test_pictures_clips_and_sounds_reach_the_engine(student):
    blue = np.full((64, 64, 3), (20, 40, 220), np.uint8)
    parts = (Picture(blue), Film(np.zeros((8, 64, 64, 3), np.uint8)), Sound(tone(0.5, 523)), "what is it?")
    answer = student.answer(Question(parts, "nothing"))
    assert answer.words == "a picture of 20 40 220 and a clip of 256x256, 2.0 s and a sound of 522 Hz"
    assert answer.heard == "a hum"


def test_what_is_made_comes_back_in_the_size_of_the_probes(student):
    answer = student.answer(Question(("everything",), "nothing"))
    assert answer.picture.shape == (64, 64, 3)
    assert answer.frames.shape == (8, 64, 64, 3)
    assert student.answer(Question(("hello",), "nothing", voice="alto")).samples.shape == (32_000,)


def test_who_only_listens_ends_with_the_transcript(student):
    answer = student.answer(Question((Sound(tone(0.5)), "slow"), "nothing"), listen_only=True)
    assert (answer.heard, answer.words) == ("a hum", "")
    assert student.engine.running == 0
