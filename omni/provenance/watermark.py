"""What all marks share: keyed chips, the week that a mark carries, and how sure a finding is.

A mark is the sum of two patterns of keyed, fair +1/-1 chips (spread spectrum; Cox et al., "Secure spread spectrum
watermarking for multimedia", 1997). The first tells where the mark lies. The second is the first's companion, shifted
in a circle by one of 1,024 steps: that step is the payload. Every payload is so a code word of thousands of chips, any
two of them half of their chips apart, and decoding to the likeliest one corrects the errors that compression leaves.

A finding is the correlation of the two patterns with what was seen, divided by the norm of what was seen. Whatever
was seen, as long as it was made without the key, the chance that fair chips correlate by more than ``score`` is at most
exp(-score^2 / 2) (Hoeffding, 1963). Looking in ``tries`` places makes it at most ``tries`` times that. Nothing has to
be assumed about pictures or sounds.

None of this stops someone who has the key, or who wants to remove the mark and may spoil the file a little.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

PAYLOADS = 1024  # weeks, nearly twenty years
FIRST_WEEK = date(2026, 1, 5)  # a Monday
SURE = 1e-6  # the chance of a false alarm at which a mark is said to be there


@dataclass(frozen=True)
class Found:
    """The likeliest mark in a file: ``p`` bounds the chance that an unmarked file looks so much like a marked one."""

    p: float
    payload: int

    @property
    def sure(self) -> bool:
        """Whether the mark is said to be there."""
        return self.p <= SURE

    @property
    def week(self) -> date:
        """The Monday of the week in which the file was made."""
        return FIRST_WEEK + timedelta(weeks=self.payload)


NOTHING = Found(1.0, 0)


def payload_of(day: date) -> int:
    """The week of a day, as a mark carries it."""
    return (day - FIRST_WEEK).days // 7 % PAYLOADS


def chips(key: bytes, purpose: str, count: int) -> np.ndarray:
    """(count,) float32 of +1 and -1, fair and independent for whoever does not know the key."""
    stream = hashlib.shake_256(len(key).to_bytes(4, "big") + key + purpose.encode()).digest(-(-count // 8))
    return np.unpackbits(np.frombuffer(stream, np.uint8))[:count].astype(np.float32) * 2 - 1


def bound(score: float, tries: float) -> float:
    """The chance that fair chips reach ``score`` in one of ``tries`` places."""
    return min(1.0, math.exp(min(0.0, math.log(tries) - max(score, 0.0) ** 2 / 2)))
