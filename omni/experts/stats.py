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
    """Which expert took each token of which modality. Off until ``open``.

    State: ``shares`` (layers, modalities, experts) int64, the tokens that each expert took; ``labels``, the modality of
    every token of the next forward pass, by its number; ``steps``, the experts of each decoded token, layer by layer.
    """

    layers: int
    experts: int
    modalities: tuple[str, ...] = ("text",)
    labels: Sequence[int] | None = None
    shares: np.ndarray = field(init=False)
    steps: list[list[tuple[int, ...]]] = field(init=False)
    on: bool = False

    def __post_init__(self):
        self.clear()

    def open(self, modalities: tuple[str, ...]) -> None:
        """Start to log, the modalities known by these names."""
        self.modalities, self.on = modalities, True
        self.clear()

    def clear(self) -> None:
        self.shares = np.zeros((self.layers, len(self.modalities), self.experts), np.int64)
        self.steps = []

    def note(self, layer: int, chosen: list[list[int]]) -> None:
        """A layer sent its tokens to ``chosen``, (T, k) experts."""
        if not self.on or not chosen or (layer and not self.steps):  # or opened in the middle of a forward pass
            return
        labels = self.labels if self.labels is not None and len(self.labels) == len(chosen) else [0] * len(chosen)
        for label, experts in zip(labels, chosen, strict=True):
            self.shares[layer, label, experts] += 1
        if layer == 0:
            self.steps += [[] for _ in chosen]
        for step, experts in zip(self.steps[-len(chosen) :], chosen, strict=True):
            step.append(tuple(experts))

    def mutual_information(self) -> list[float]:
        """Normalised mutual information between modality and expert, 0..1, by layer: 0 where all are used alike."""
        return [_normalised_information(layer) for layer in self.shares]


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
