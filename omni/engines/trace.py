"""The tokens of a reply in their order, and the experts that took them: what Telemetry tells of routing.

A token is made first and goes through the layers afterwards, with the next step; it waits here in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

import numpy as np

from omni.events import Routed


class Made(NamedTuple):
    """A token that was read or made."""

    pool: str
    read: bool
    kind: str
    piece: str = ""


class Trace:
    """State: tokens that did not go through the layers yet, oldest first, and the experts that came before them.

    ``pools``: of each pool of experts (layers, experts a token, experts a layer).
    """

    def __init__(self, pools: Mapping[str, tuple[int, int, int]]):
        self.pools = pools
        self.waiting: deque[Made] = deque()
        self.arrived: dict[str, deque[np.ndarray]] = {name: deque() for name in pools}

    def expect(self, tokens: Iterable[Made]) -> None:
        """These tokens come next, each in its pool."""
        self.waiting.extend(tokens)

    def arrive(self, pool: str, experts: np.ndarray) -> None:
        """The next tokens of ``pool`` went to ``experts``, (T, layers, k)."""
        self.arrived[pool].extend(experts)

    def take(self) -> tuple[Routed, ...]:
        """Take out what went through, up to the first token that did not."""
        return tuple(self._runs(self._whole()))

    def rest(self) -> tuple[Routed, ...]:
        """Take out everything: nothing comes any more."""
        whole = list(self._whole())
        left = [(token, self._nobody(token.pool)) for token in self.waiting]
        self.waiting.clear()
        return tuple(self._runs([*whole, *left]))

    def _whole(self) -> Iterator[tuple[Made, np.ndarray]]:
        while self.waiting and self.arrived[self.waiting[0].pool]:
            token = self.waiting.popleft()
            yield token, self.arrived[token.pool].popleft()

    def _nobody(self, pool: str) -> np.ndarray:
        layers, k, _ = self.pools[pool]
        return np.full((layers, k), -1, np.int16)

    def _runs(self, tokens: Iterable[tuple[Made, np.ndarray]]) -> Iterator[Routed]:
        for (pool, read), run in groupby(tokens, key=lambda one: one[0][:2]):
            made, experts = zip(*run, strict=True)
            kinds, pieces = tuple(one.kind for one in made), tuple(one.piece for one in made)
            yield Routed(pool, read, kinds, pieces, np.stack(experts), self.pools[pool][2])
