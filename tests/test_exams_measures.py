"""Figures and intervals are those of the textbook, and an interval covers the truth as often as it says."""

import numpy as np
import pytest

from omni.exams import measures


def verdicts(right: int, of: int) -> np.ndarray:
    return np.array([(float(index < right), 1.0) for index in range(of)])


def test_a_share_has_wilsons_interval():
    assert measures.interval(measures.share, verdicts(90, 100)) == pytest.approx((82.56, 94.48), abs=0.01)
    low, high = measures.interval(measures.share, verdicts(10, 10))
    assert 70 < low < 75 and high == pytest.approx(100)


def test_a_rate_is_of_all_words_and_not_the_mean_of_rates():
    assert measures.share(np.array([(1.0, 1.0), (0.0, 9.0)])) == pytest.approx(10)


def test_intervals_cover_the_truth():
    """Seed 5; of 120 exams of 100 questions each about 95 in 100 hold the true rate of 0.2."""
    rng, hits = np.random.default_rng(5), 0
    for _ in range(120):
        words = rng.integers(4, 12, 100)
        low, high = measures.interval(measures.rate, np.stack([rng.binomial(words, 0.2), words], 1).astype(float))
        hits += low <= 0.2 <= high
    assert 0.88 <= hits / 120 <= 0.995


def test_a_paired_difference_is_surer_than_two_intervals():
    """The same two questions more are right: certain when paired, not to be told from two intervals."""
    base = verdicts(50, 100)
    better = base.copy()
    better[50:58, 0] = 1
    found = measures.difference(measures.share, better, base)
    assert found.value == pytest.approx(8) and found.certain
    assert measures.interval(measures.share, better)[0] < measures.interval(measures.share, base)[1]
    assert not measures.difference(measures.share, base, base.copy()).certain


def test_exams_of_different_lengths_are_not_compared():
    with pytest.raises(ValueError, match="different questions"):
        measures.difference(measures.share, verdicts(1, 4), verdicts(1, 5))


def test_the_spread_is_between_the_best_and_the_worst_route():
    assert measures.spread(np.array([(1, 0, 1, 1), (1, 0, 1, 0)], float)) == pytest.approx(100)


@pytest.mark.parametrize(("voiced", "figure"), [(50, 80.0), (30, 0.0), (70, 0.0)])
def test_speech_that_is_voiced_too_little_or_too_much_is_not_speech(voiced, figure):
    marks = np.array([(80.0, 100.0, voiced, 100.0, 50.0, 100.0)])
    assert measures.voicing(marks) == pytest.approx(figure)
