"""Voices of the training: the same call, the same speech; a span for every word; the exam's voices kept apart."""

import subprocess
import sys

import numpy as np
import pytest
from processes import REPOSITORY

from omni.primer.training import voices

needs_espeak = pytest.mark.skipif(not voices.available(), reason="libespeak-ng is not there")
TEXT = "do you see the cat , in the middle of a tree ?"


def test_the_exam_voices_are_not_among_the_trained():
    trained = {voice.espeak for voice in voices.TRAIN_VOICES}
    assert len(voices.HELDOUT_VOICES) >= 4 and len(trained) >= 16
    assert not trained & {voice.espeak for voice in voices.HELDOUT_VOICES}
    assert "awb" not in voices.FLITE_VOICES


def test_names_are_unique_and_primer_has_two_speakers():
    everyone = voices.TRAIN_VOICES + voices.HELDOUT_VOICES
    assert len({voice.name for voice in everyone}) == len(everyone)
    assert [voice.name for voice in voices.SPEAKERS] == ["ada", "ben"]
    assert voices.voice("ada") == voices.SPEAKERS[0]


@needs_espeak
@pytest.mark.parametrize("voice", voices.TRAIN_VOICES + voices.HELDOUT_VOICES, ids=lambda voice: voice.espeak)
def test_a_span_for_every_word_in_order_to_the_end(voice):
    said = voices.speak(TEXT, voice)
    starts, ends = zip(*said.words, strict=True)
    assert len(said.words) == 11  # the comma and the question mark stand alone: no words
    assert starts[1:] == ends[:-1] and ends[-1] == pytest.approx(len(said.samples) / voices.RATE, abs=1e-6)
    assert min(end - start for start, end in said.words) > 0.02
    assert said.samples.dtype == np.float32 and np.abs(said.samples).max() > 0.05


@needs_espeak
def test_the_same_call_gives_the_same_speech_whatever_was_said_between():
    """espeak's noise and flutter go on from call to call."""
    first = voices.speak(TEXT, voices.SPEAKERS[0])
    voices.speak("hello there", voices.SPEAKERS[1])
    again = voices.speak(TEXT, voices.SPEAKERS[0])
    assert np.array_equal(first.samples, again.samples) and first.words == again.words


MANY = """
import os, threading
from omni.primer.training import voices

def speak(number):
    for turn in range(30):
        assert voices.available() and len(voices.speak("a cat", voices.TRAIN_VOICES[number]).samples)

threads = [threading.Thread(target=speak, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for _ in range(10):
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
for thread in threads:
    thread.join()
"""


@needs_espeak
def test_many_threads_can_speak_while_others_fork():
    """In a process of its own: what went wrong here was its memory, and took the process down."""
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, timeout=100, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, b"")


@needs_espeak
def test_phonemes_follow_one_another_within_the_sound():
    said = voices.speak("a red ball.", voices.SPEAKERS[1])
    assert "b" in [label for label, _, _ in said.phonemes]
    assert all(a[2] <= b[1] + 1e-9 for a, b in zip(said.phonemes, said.phonemes[1:], strict=False))
    assert said.phonemes[-1][2] <= len(said.samples) / voices.RATE + 1e-6


@needs_espeak
def test_silence_at_the_ends_is_short():
    samples = np.abs(voices.speak("yes", voices.SPEAKERS[0]).samples)
    loud = np.flatnonzero(samples > 0.003 * samples.max()) / voices.RATE
    assert loud[0] <= 0.041 and len(samples) / voices.RATE - loud[-1] <= 0.041


@needs_espeak
def test_a_forked_child_can_speak():
    """A child that inherited the loaded library once waited for ever."""
    import multiprocessing

    here = voices.speak("hello", voices.SPEAKERS[0]).samples
    with multiprocessing.get_context("fork").Pool(1) as pool:
        there = pool.apply_async(voices.speak, ("hello", voices.SPEAKERS[0])).get(timeout=10).samples
    assert np.array_equal(here, there)


@needs_espeak
@pytest.mark.parametrize("text", ["", " ", " . ", "a" * 3000])
def test_a_text_without_words_or_end_is_refused(text):
    with pytest.raises(ValueError, match="1 word"):
        voices.speak(text, voices.SPEAKERS[0])


def test_a_room_keeps_length_where_asked_and_stays_in_range():
    samples = np.sin(np.arange(16000) / 20).astype(np.float32)
    for seed in range(20):
        out = voices.room(samples, np.random.default_rng(seed), shift=False)
        assert out.shape == samples.shape and out.dtype == np.float32 and np.abs(out).max() <= 0.61
    again = voices.room(samples, np.random.default_rng(19), shift=False)
    assert np.array_equal(out, again)
