"""The exam judges words by what they say."""

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni.exams import reading
from omni.primer.training import world
from omni.primer.training.turns import Tone
from omni.primer.training.world import Scene, Thing

CAT, ROCKET, RED_BALL = Thing("cat"), Thing("rocket"), Thing("ball", "red")


def test_every_caption_of_the_book_is_read_back_as_its_scene():
    rng = np.random.default_rng(1)
    for index in range(300):
        scene = world.random_scene(rng, held_out=index % 2 == 0)
        assert reading.scene(world.caption(scene)) == scene


def test_every_caption_of_a_clip_is_read_back_as_its_clip():
    rng = np.random.default_rng(2)
    for index in range(200):
        clip = world.random_clip(rng, held_out=index % 2 == 0)
        assert reading.clip(world.clip_caption(clip)) == clip


def test_a_relation_and_its_opposite_with_swapped_things_are_the_same_scene():
    above, below = reading.scene("a cat above a rocket on green"), reading.scene("a rocket below a cat on green")
    assert reading.same_scene(above, below)
    assert not reading.same_scene(above, reading.scene("a rocket above a cat on green"))


def test_a_size_is_read_and_not_counted():
    big = reading.scene("a big cat at the top left on green")
    assert big == Scene(CAT, "green", "at the top left", "big")
    assert reading.same_scene(big, Scene(CAT, "green", "at the top left"))


@pytest.mark.parametrize("other", [
    "a cat at the top on green", "a dog at the top left on green", "a cat at the top left on blue", "two cats on green",
    "a cat above a dog on green",
])  # fmt: skip
def test_another_thing_place_ground_or_count_is_another_scene(other):
    assert not reading.same_scene(reading.scene("a cat at the top left on green"), reading.scene(other))


def test_a_colour_counts():
    assert reading.scene("a red ball in the middle on white") == Scene(RED_BALL, "white")
    assert not reading.same_scene(reading.scene("two red balls on white"), reading.scene("two blue balls on white"))


@pytest.mark.parametrize("words", [
    "", "a cat", "a cat on green", "a cat above on green", "a red cat in the middle on green",
    "a ball in the middle on green", "five cats on green", "two cat on green",
    "a cat at the top left on green and", "a dragon in the middle on green",
])  # fmt: skip
def test_what_the_book_cannot_say_is_not_read(words):
    assert reading.scene(words) is None
    assert not reading.same_scene(reading.scene(words), reading.scene(words))


def test_a_reply_claims_what_follows_its_opening():
    assert reading.claim("I see a cat above a rocket on green.", "I see ") == "a cat above a rocket on green"
    assert reading.claim("A cat spins on blue.") == "a cat spins on blue"
    assert reading.claim("Here is a cat.", "I see ") == ""


def test_a_tone_is_read():
    assert reading.tone("an a on a bell") == Tone("a", "bell")
    assert reading.tone("a high c on a sine") == Tone("high c", "sine")
    assert reading.tone("an h on a bell") is None


@pytest.mark.parametrize(("said", "heard", "errors"), [
    ("draw a cat", "draw a cat", 0), ("draw a cat", "Draw a cat.", 0), ("draw a cat", "", 3),
    ("draw a cat", "draw cat", 1), ("draw a cat", "please draw a bat", 2), ("", "a", 1),
])  # fmt: skip
def test_word_errors_are_the_words_to_mend(said, heard, errors):
    assert reading.word_errors(said, heard) == errors


_words = st.lists(st.sampled_from(["a", "cat", "dog", "on", "green", "two"]), min_size=1, max_size=9).map(" ".join)


@given(st.lists(st.tuples(_words, _words), min_size=1, max_size=5))
def test_the_word_error_rate_is_jiwers(pairs):
    said, heard = map(list, zip(*pairs, strict=True))
    assert reading.word_error_rate(pairs) == pytest.approx(100 * jiwer.wer(said, heard))


@pytest.mark.parametrize(("words", "right"), [
    ("Two plus three is five.", True), ("5", True), ("It is five.", True), ("2 + 3 = 5", True),
    ("Two plus three is six.", False), ("Two plus two is five.", False), ("", False), ("fifty five", False),
    ("Two plus three is 105.", False),
])  # fmt: skip
def test_a_sum_is_right_by_its_result_and_its_numbers(words, right):
    assert reading.same_sum(words, "Two plus three is five.") == right


@pytest.mark.parametrize(("words", "truth", "right"), [
    ("It is a red ball.", "red ball", True), ("A red ball spins on black.", "red ball", True),
    ("It is a ball.", "red ball", False), ("It is a red ball, or a cat.", "red ball", False),
    ("It is black.", "black", True), ("A black heart spins on green.", "black", False), ("Black.", "black", True),
    ("It is black on green.", "black", False), ("The background is a plain black.", "black", True),
])  # fmt: skip
def test_an_answer_names_what_is_true_and_nothing_else(words, truth, right):
    assert reading.answers(words, truth) == right


@pytest.mark.parametrize(("words", "says"), [
    ("I do not know what this is yet.", True), ("No, I see a cat.", True), ("There isn't any dog.", True),
    ("The picture is blank.", True), ("I see a cat in the middle on blue.", False), ("You said: another one.", False),
])  # fmt: skip
def test_a_reply_that_says_that_something_is_wrong(words, says):
    assert reading.says_so(words) == says
