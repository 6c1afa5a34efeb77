"""The page's own voice is told from a visitor's, through a room and under noise."""

from __future__ import annotations

import numpy as np
import pytest
from speaking import frames, silence, spoken

from omni.media.audio import resample
from omni.ui.echo import Echo
from omni.ui.listening import FRAME, RATE, Began, Listener

DELAY = 0.12  # seconds from the player to the microphone


def room(samples: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """The sound after ``DELAY`` in a room where it dies away in so many seconds, at a third of its level."""
    count = max(1, round(seconds * RATE))
    answer = 0.1 * rng.normal(0, 1, count) * np.exp(-6.9 * np.arange(count) / count)
    answer[0] = 1.0
    late = np.concatenate([silence(DELAY), samples])
    return (0.3 * np.convolve(late, answer)[: len(late)]).astype(np.float32)


def interruptions(voice: np.ndarray, heard: np.ndarray, rate: int = RATE) -> int:
    """How often what is heard counts as somebody who speaks while ``voice`` is played."""
    listener, echo, count = Listener(), Echo(), 0
    for start in range(0, len(voice), 800):
        echo.play(resample(voice[start : start + 800], RATE, rate), rate)
    for place, frame in enumerate(frames(heard)):
        at = place * FRAME if place * FRAME < len(voice) else None  # the player is silent, the room not yet
        own = echo.hear(frame, at)
        count += listener.hear(frame, over=at is not None, own=own) == Began()
    return count


@pytest.mark.parametrize(("reverberation", "noise"), [(0.0, 0.0), (0.2, 0.0), (0.2, 0.003), (0.4, 0.0)])
def test_a_loud_echo_does_not_interrupt(reverberation: float, noise: float):
    rng = np.random.default_rng(0)
    voice = np.concatenate([spoken("request"), spoken("question"), silence(0.3)])
    heard = room(voice, reverberation, rng)
    heard += rng.normal(0, noise, len(heard)).astype(np.float32) if noise else 0
    assert interruptions(silence(3.0), heard) == 1  # without the comparison it would
    assert interruptions(voice, heard) == 0


def test_the_end_of_the_echo_comes_after_the_end_of_the_voice():
    voice = spoken("request")[: round(1.1 * RATE)]  # cut off in mid-word
    late = np.concatenate([silence(0.3), voice, silence(0.3)]).astype(np.float32) * 0.5
    assert interruptions(voice, late) == 0


def test_a_visitor_over_the_echo_interrupts():
    voice = np.concatenate([spoken("request"), spoken("request"), silence(0.3)])
    heard = room(voice, 0.2, np.random.default_rng(0))
    heard[: RATE + len(spoken("question"))][RATE:] += spoken("question")
    assert interruptions(voice, heard) == 1


def test_the_same_words_said_again_by_somebody_else_interrupt():
    voice = np.concatenate([spoken("request"), silence(1.0)])
    somebody = resample(spoken("request"), RATE, round(RATE / 1.06))  # a little lower and slower
    assert interruptions(voice, np.concatenate([silence(0.1), somebody])[: len(voice)]) == 1


def test_the_rate_of_the_reply_does_not_matter():
    voice = np.concatenate([spoken("question"), silence(0.3)])
    assert interruptions(voice, room(voice, 0.1, np.random.default_rng(0)), rate=24_000) == 0


def test_where_nothing_sounds_nothing_is_an_echo():
    echo = Echo()
    echo.play(spoken("request"), RATE)
    assert not any(echo.hear(frame, None) for frame in frames(spoken("request")))
