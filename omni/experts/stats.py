"""What the experts engine did: hits, misses, prefetches, bytes and waiting, by pool, phase and layer; who took what.

Plain counters that cost a few additions an event, so that they stay on. The page draws them; nothing here acts on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields

import numpy as np

PHASES = ("prefill", "decode")


@dataclass
class Counts:
    """What happened to the experts of one layer in one phase."""

    hits: int = 0  # asked for and in place
    misses: int = 0  # asked for and fetched then
    prefetched: int = 0  # hits on what was fetched ahead
    wasted: int = 0  # fetched ahead and gone again unused
    bytes_read: int = 0
    stalled: float = 0.0  # seconds in which the computation waited for a fetch

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Counts)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, one.name) - getattr(other, one.name) for one in fields(Counts)))

    @property
    def hit_rate(self) -> float:
        return self.hits / max(1, self.hits + self.misses)


@dataclass
class PoolStats:
    """The counters of one pool. ``phase`` is the one that is counted now."""

    layers: int
    experts: int
    phase: str = "decode"
    counts: dict[str, list[Counts]] = field(init=False)

    def __post_init__(self):
        self.reset()

    def reset(self) -> None:
        self.counts = {phase: [Counts() for _ in range(self.layers)] for phase in PHASES}

    def at(self, layer: int) -> Counts:
        """The counters that an event in ``layer`` belongs to."""
        return self.counts[self.phase][layer]

    def total(self, phase: str | None = None) -> Counts:
        """The sum over the layers, of one phase or of both."""
        chosen = [phase] if phase else PHASES
        return sum((one for name in chosen for one in self.counts[name]), Counts())

    def rows(self) -> Iterator[dict]:
        """One plain dict a phase and layer, for tables and charts."""
        for phase, layers in self.counts.items():
            for layer, counts in enumerate(layers):
                yield {"phase": phase, "layer": layer, **asdict(counts)}


@dataclass
class RoutingLog:
    """Which experts took each token. Off until ``open``; who opens it takes out what is in it.

    State: of each forward pass the experts (T, k) layer by layer, as they came. Whatever is made of them is made when
    they are taken, so that a token costs an addition to a list a layer.
    """

    layers: int
    experts: int
    on: bool = False
    passes: list[list[list[list[int]]]] = field(default_factory=list)

    def open(self) -> None:
        """Log from the next forward pass on."""
        self.passes, self.on = [], True

    def close(self) -> None:
        """Log no more, and forget."""
        self.passes, self.on = [], False

    def note(self, layer: int, chosen: list[list[int]]) -> None:
        """A layer sent its tokens to ``chosen``, (T, k) experts."""
        if not self.on or not chosen:
            return
        if layer == 0:
            self.passes.append([chosen])
        elif self.passes:  # otherwise it was opened in the middle of a pass
            self.passes[-1].append(chosen)

    def take(self) -> list[np.ndarray]:
        """Take out the passes that went through all layers: the experts of their tokens, (T, layers, k) int16 each.

        A pass that broke off is left out; the last one may be under way and stays.
        """
        under_way = self.passes[-1:] if self.passes and len(self.passes[-1]) < self.layers else []
        whole = [one for one in self.passes if len(one) == self.layers]
        self.passes = under_way
        return [np.array(one, np.int16).transpose(1, 0, 2) for one in whole]


def shares_of(chosen: np.ndarray, labels: Sequence[int], modalities: int, experts: int) -> np.ndarray:
    """How many tokens of each modality each expert took: (layers, modalities, experts) int64.

    ``chosen`` (T, layers, k) with -1 for a token that went through none; ``labels`` (T,) in 0..modalities.
    """
    tokens, layers, k = chosen.shape
    shares = np.zeros((layers, modalities, experts), np.int64)
    places = np.broadcast_to(np.arange(layers)[:, None], (tokens, layers, k))
    which = np.broadcast_to(np.asarray(labels, np.int64)[:, None, None], (tokens, layers, k))
    taken = chosen >= 0
    np.add.at(shares, (places[taken], which[taken], chosen[taken]), 1)
    return shares


def mutual_information(shares: np.ndarray) -> list[float]:
    """Normalised mutual information between modality and expert, 0..1, by layer: 0 where all are used alike.

    ``shares``: counts (layers, modalities, experts), see ``shares_of``.
    """
    return [_normalised_information(layer) for layer in shares]


def _normalised_information(joint: np.ndarray) -> float:
    """I(modality; expert) / min of their entropies, from counts (modalities, experts); 0 where one of them is fixed."""
    if not joint.sum():
        return 0.0
    joint = joint / joint.sum()
    rows, columns = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    seen = joint > 0
    information = (joint[seen] * np.log(joint[seen] / (rows * columns)[seen])).sum()
    least = min(-(side[side > 0] * np.log(side[side > 0])).sum() for side in (rows, columns))
    return float(information / least) if least > 1e-9 else 0.0
