"""Turns on a microphone: where they begin and end, and what is no turn."""

from __future__ import annotations

import numpy as np
import pytest
from media_files import tone
from speaking import frames, silence, spoken

from omni.ui.listening import (
    CONFIRM,
    DRAFT,
    FRAME,
    FRAME_SECONDS,
    LONGEST,
    RATE,
    Began,
    Dropped,
    Ended,
    Listener,
    Paused,
    Resumed,
)

AROUND = 7 * FRAME  # two frames before, two after, and what the detector is late by


def hear_all(listener: Listener, *pieces: np.ndarray, **how: bool) -> list[tuple[int, object]]:
    """What changed, and at which frame."""
    changes = [(place, listener.hear(frame, **how)) for place, frame in enumerate(frames(*pieces))]
    return [(place, change) for place, change in changes if change is not None]


def hear(listener: Listener, *pieces: np.ndarray, **how: bool) -> list[tuple[int, object]]:
    """The same without the doubts on the way."""
    changes = hear_all(listener, *pieces, **how)
    return [(place, change) for place, change in changes if not isinstance(change, Paused | Resumed)]


def test_a_turn_is_the_speech_without_the_silence_around_it():
    voice = spoken("question")
    (_, began), (_, ended) = hear(Listener(), silence(1.0), voice, silence(1.0))
    assert began == Began() and isinstance(ended, Ended)
    assert abs(len(ended.samples) - len(voice)) < AROUND
    loud = np.flatnonzero(np.abs(ended.samples) > 0.02) / RATE
    assert loud[0] < 0.1
    assert len(ended.samples) / RATE - loud[-1] < 6 * FRAME_SECONDS  # two are kept, the detector is three or four late


def test_a_voice_is_noticed_within_two_tenths_of_a_second():
    onset = 1.0 + np.flatnonzero(np.abs(spoken("request")) > 0.05)[0] / RATE
    (place, _), *_ = hear(Listener(), silence(1.0), spoken("request"), silence(1.0), over=True)
    assert (place + 1) * FRAME_SECONDS - onset < 0.2


@pytest.mark.parametrize("pause", [0.3, 1.0])
def test_the_silence_that_ends_a_turn_can_be_set(pause: float):
    listener = Listener()
    listener.pause = pause
    (_, _), (place, ended) = hear(listener, silence(0.5), spoken("request"), silence(2.0))
    assert (place - ended.last) * FRAME_SECONDS == pytest.approx(pause, abs=FRAME_SECONDS)


def test_a_short_pause_does_not_end_a_turn():
    changes = hear(Listener(), spoken("question"), silence(0.3), spoken("request"), silence(1.0))
    assert [type(change) for _, change in changes] == [Began, Ended]


def test_a_pause_may_be_the_end_and_says_what_the_turn_would_be():
    changes = hear_all(Listener(), spoken("question"), silence(1.0))
    (_, _), (paused, first), (ended, last) = changes
    assert isinstance(first, Paused) and isinstance(last, Ended)
    assert np.array_equal(first.ended.samples, last.samples) and first.ended.last == last.last
    assert (paused - last.last) * FRAME_SECONDS == pytest.approx(DRAFT, abs=FRAME_SECONDS) and paused < ended


def test_whoever_goes_on_after_a_pause_takes_it_back():
    changes = hear_all(Listener(), spoken("question"), silence(0.3), spoken("request"), silence(1.0))
    kinds = [type(change) for _, change in changes]
    assert kinds[:3] == [Began, Paused, Resumed] and kinds[-2:] == [Paused, Ended]


def test_a_held_turn_is_never_in_doubt():
    listener = Listener()
    listener.hold()
    assert hear_all(listener, spoken("question"), silence(1.0), spoken("request")) == []


def test_tones_noise_and_clicks_are_no_speech():
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    click = np.concatenate([silence(0.5), np.full(200, 0.9, np.float32), silence(0.5)])
    assert hear(Listener(), tone(2.0), noise, click, click) == []


def test_a_syllable_is_dropped():
    voice = spoken("request")
    onset = np.flatnonzero(np.abs(voice) > 0.05)[0]
    changes = hear(Listener(), silence(0.5), voice[onset : onset + 4 * FRAME], silence(1.0))
    assert changes == [] or [change for _, change in changes] == [Began(), Dropped()]


def test_what_is_the_reply_s_own_sound_is_not_heard():
    assert hear(Listener(), silence(0.5), spoken("request"), silence(1.0), own=True) == []


def test_a_held_turn_ends_when_it_is_let_go_and_not_before():
    listener = Listener()
    assert listener.hold() == Began()
    assert hear(listener, silence(0.5), spoken("question"), silence(1.5)) == []
    ended = listener.finish()
    assert isinstance(ended, Ended) and abs(len(ended.samples) - len(spoken("question"))) < AROUND
    assert listener.finish() is None


def test_nothing_said_while_held_is_dropped():
    listener = Listener()
    listener.hold()
    hear(listener, silence(1.0))
    assert listener.finish() == Dropped()


def test_whoever_never_pauses_is_answered_in_the_end():
    listener = Listener()
    voice = np.concatenate([spoken("request")] * int(LONGEST / 1.2))
    changes = [change for _, change in hear(listener, voice)]
    assert [type(change) for change in changes][:2] == [Began, Ended]
    assert len(changes[1].samples) <= LONGEST * RATE


def test_the_next_turn_knows_nothing_of_the_last():
    listener = Listener()
    changes = hear(listener, spoken("question"), silence(1.0), spoken("request"), silence(1.0))
    first, second = (change for _, change in changes if isinstance(change, Ended))
    assert len(second.samples) < len(spoken("request")) + AROUND
    assert second.last - first.last > CONFIRM
