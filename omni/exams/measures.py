"""From the marks of single questions to figures with 95% intervals, and to the difference of two exams.

The marks of one row are an array (N, K): what each of N questions contributes. Shares have Wilson's interval (1927),
all else the percentile bootstrap over questions (Efron 1979).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

DRAWS = 1000
LEVEL = 0.95
VOICED_SHARE = (0.8, 1.25)  # of generated speech, relative to the same sentences by the true speaker
Statistic = Callable[[np.ndarray], float]


def share(marks: np.ndarray) -> float:
    """Right over asked, or errors over words (N, 2), in percent."""
    return 100 * rate(marks)


def rate(marks: np.ndarray) -> float:
    """Errors over characters (N, 2)."""
    return float(marks[:, 0].sum() / max(1, marks[:, 1].sum()))


def median(marks: np.ndarray) -> float:
    """The middle of (N, 1)."""
    return float(np.median(marks[:, 0]))


def spread(marks: np.ndarray) -> float:
    """Verdicts (N, routes): the best route's share less the worst one's, in points."""
    return 100 * float(np.ptp(marks.mean(0)))


def voicing(marks: np.ndarray) -> float:
    """F1 in percent of frames (N, 6): twice the right ones, voiced ones true and recoded; then of generated and of true
    speech the voiced frames and all. 0 where generated speech is not voiced as often as true speech, in VOICED_SHARE.
    """
    twice, voiced, made, made_all, true, true_all = marks.sum(0)
    ratio = made / max(1, made_all) / max(1e-9, true / max(1, true_all))
    return 100 * twice / max(1, voiced) if VOICED_SHARE[0] <= ratio <= VOICED_SHARE[1] else 0.0


def interval(statistic: Statistic, marks: np.ndarray) -> tuple[float, float]:
    """The 95% interval of a figure."""
    if statistic is share and np.isin(marks[:, 0], (0, 1)).all() and (marks[:, 1] == 1).all():
        found = stats.binomtest(int(marks[:, 0].sum()), len(marks)).proportion_ci(LEVEL, "wilson")
        return 100 * float(found.low), 100 * float(found.high)
    drawn = [statistic(marks[rows]) for rows in _draws(len(marks))]
    return _ends(drawn)


@dataclass(frozen=True)
class Difference:
    """How much higher the first of two exams stands, in the row's unit, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int  # questions

    @property
    def certain(self) -> bool:
        """Whether the interval leaves no difference out."""
        return self.low > 0 or self.high < 0


def difference(statistic: Statistic, one: np.ndarray, other: np.ndarray) -> Difference:
    """Two exams in the same questions, row n of both being the same question: the paired bootstrap."""
    if one.shape != other.shape:
        raise ValueError(f"the exams asked different questions: {one.shape} and {other.shape}")
    drawn = [statistic(one[rows]) - statistic(other[rows]) for rows in _draws(len(one))]
    return Difference(statistic(one) - statistic(other), *_ends(drawn), len(one))


def _draws(count: int) -> np.ndarray:
    """(DRAWS, count) rows drawn with replacement, the same for the same count."""
    return np.random.default_rng(count).integers(0, count, (DRAWS, count))


def _ends(drawn: list[float]) -> tuple[float, float]:
    edge = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, (edge, 100 - edge))
    return float(low), float(high)
