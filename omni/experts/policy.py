"""Which expert leaves the fast memory when another needs its place: pure Python, replayable on a trace.

A policy gives every key a worth when it is used; the resident of the least worth leaves. What happened to a key is
remembered after it left, so a policy also knows those that come back. ``belady`` is the bound that no policy can beat.
Knows nothing of tensors, slots or threads; the cache calls it under its own lock.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Container, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

Key = tuple[int, Hashable]  # layer, expert
Entry = tuple[float, int, Key]  # worth, number of the use, key
Trace = Sequence[Sequence[Key]]  # what was needed at once, one layer of one step after the other
HALF_LIFE = 6  # tokens after which a use counts half: the best on made-up traces with a Zipf-like skew


class Policy:
    """Least worth leaves first. State: the clock, an entry for every resident, a heap of valid and outdated entries."""

    def __init__(self):
        self.clock = 0
        self._valid: dict[Key, Entry] = {}
        self._heap: list[Entry] = []
        self._entries = 0

    @property
    def residents(self) -> set[Key]:
        """The keys that were touched or passed by, and not forgotten since."""
        return set(self._valid)

    def worth(self, key: Key) -> float:
        """The worth of ``key``, used now for the first time or again; a subclass says how."""
        raise NotImplementedError

    def tick(self) -> None:
        """One group of keys was used."""
        self.clock += 1

    def touch(self, key: Key) -> None:
        """``key`` is used now, and is or becomes a resident."""
        self._set(key, self.worth(key))

    def pass_by(self, key: Key) -> None:
        """``key`` becomes a resident without being used again soon, as in a prefill: it leaves first."""
        if key not in self._valid:
            self._set(key, -math.inf)

    def forget(self, key: Key) -> None:
        """``key`` is no longer a resident."""
        self._valid.pop(key, None)

    def victim(self, busy: Container[Key], wanted: Key | None = None) -> Key | None:
        """The resident that makes way for ``wanted``, none of the ``busy`` ones; None where all are.

        It stays a resident until it is forgotten.
        """
        kept, found = [], None
        while self._heap and found is None:
            entry = heapq.heappop(self._heap)
            if self._valid.get(entry[2]) is not entry:
                continue  # outdated
            kept.append(entry)
            if entry[2] not in busy:
                found = entry[2]
        for entry in kept:
            heapq.heappush(self._heap, entry)
        return found

    def _set(self, key: Key, worth: float) -> None:
        self._entries += 1  # of two that are worth the same, the one that was used earlier leaves
        entry = self._valid[key] = worth, self._entries, key
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 64 + 4 * len(self._valid):
            self._heap = list(self._valid.values())
            heapq.heapify(self._heap)


class LRU(Policy):
    """Least recently used."""

    def worth(self, key: Key) -> float:
        return self.clock


class LayeredLRU(Policy):
    """Leaves: whose layer came round most often without it, and of several the one whose layer comes round last.

    A token visits layer after layer, so the least recently used expert of all is often one of the next layer, which may
    be needed at once; what counts is how often an expert had its chance, and how soon it has the next one. State: the
    visits of every layer, its residents from the oldest use to the latest with the visit of each, and passers-by.
    """

    def __init__(self, layers: int):
        super().__init__()
        self.layers = layers
        self._visits = [0] * layers
        self._used: list[dict[Key, int]] = [{} for _ in range(layers)]
        self._passing: dict[Key, None] = {}
        self._here: int | None = None  # the layer that is being visited

    @property
    def residents(self) -> set[Key]:
        return set(self._passing).union(*self._used)

    def tick(self) -> None:
        super().tick()
        self._here = None

    def touch(self, key: Key) -> None:
        layer = key[0]
        if self._here != layer:
            self._here = layer
            self._visits[layer] += 1
        self.forget(key)
        self._used[layer][key] = self._visits[layer]

    def pass_by(self, key: Key) -> None:
        if key not in self._used[key[0]]:
            self._passing[key] = None

    def forget(self, key: Key) -> None:
        self._used[key[0]].pop(key, None)
        self._passing.pop(key, None)

    def victim(self, busy: Container[Key], wanted: Key | None = None) -> Key | None:
        if (passing := _first_free(self._passing, busy)) is not None:
            return passing
        here = wanted[0] if wanted else 0
        best, found = (-1, -1), None
        for layer, used in enumerate(self._used):
            key = _first_free(used, busy)
            if key is None:
                continue
            missed = self._visits[layer] - used[key] + (layer == here)  # this visit has begun
            if (worst := (missed, (layer - here - 1) % self.layers)) > best:
                best, found = worst, key
        return found


def _first_free(keys: Iterable[Key], busy: Container[Key]) -> Key | None:
    return next((key for key in keys if key not in busy), None)


class DecayedLFU(Policy):
    """Least frequently used, a use counting half after ``half_life`` groups; a logarithm, so that worths only grow."""

    def __init__(self, half_life: float):
        super().__init__()
        self.half_life = half_life
        self._counts: dict[Key, float] = {}  # log2 of the sum of 2^(time / half life) over all uses

    def worth(self, key: Key) -> float:
        now = self.clock / self.half_life
        before = self._counts.get(key, -math.inf)
        self._counts[key] = max(now, before) + math.log2(1 + 2.0 ** -abs(now - before))
        return self._counts[key]


class ReuseDistance(Policy):
    """The resident whose last use but one is longest ago leaves: LRU-K with K = 2 (O'Neil et al., SIGMOD 1993).

    It ranks by how far apart the uses of a key are, so a key that was needed once makes way for one that came back.
    """

    def __init__(self):
        super().__init__()
        self._last: dict[Key, int] = {}

    def worth(self, key: Key) -> float:
        before, self._last[key] = self._last.get(key, -1), self.clock
        return before


class Belady(Policy):
    """What is needed again last leaves (Belady, IBM Systems Journal 1966): for the one trace it was told."""

    def __init__(self, trace: Trace):
        super().__init__()
        self._ahead = _next_uses(trace)

    def worth(self, key: Key) -> float:
        return -self._ahead[self.clock][key]


POLICIES = ("layered", "lru", "lfu", "reuse")
DEFAULT = "layered"  # the best on recorded routing: omni/bench/README.md has the comparison


def make_policy(name: str, layers: int) -> Policy:
    """A fresh policy for a pool with that many layers. Raises ValueError where the name is none of POLICIES."""
    match name:
        case "layered":
            return LayeredLRU(layers)
        case "lru":
            return LRU()
        case "lfu":
            return DecayedLFU(HALF_LIFE * layers)
        case "reuse":
            return ReuseDistance()
    raise ValueError(f"there is no policy {name!r}; there are {', '.join(POLICIES)}")


@dataclass(frozen=True)
class Replay:
    """How a trace went: uses that found their key in place, and those that did not."""

    hits: int
    misses: int

    @property
    def rate(self) -> float:
        return self.hits / max(1, self.hits + self.misses)


def replay(trace: Trace, capacity: int, policy: Policy) -> Replay:
    """Run ``trace`` through a memory of ``capacity`` keys. Raises ValueError where a group does not fit."""
    residents: set[Key] = set()
    hits = misses = 0
    for group in trace:
        _must_fit(group, capacity)
        busy = set(group)
        for key in sorted(busy, key=lambda key: key not in residents):
            if key in residents:
                hits += 1
            else:
                misses += 1
                if len(residents) >= capacity:
                    gone = policy.victim(busy, key)
                    residents.remove(gone)
                    policy.forget(gone)
                residents.add(key)
            policy.touch(key)
        policy.tick()
    return Replay(hits, misses)


def belady(trace: Trace, capacity: int) -> Replay:
    """The most hits that any policy can have; see Belady."""
    return replay(trace, capacity, Belady(trace))


def _next_uses(trace: Trace) -> list[dict[Key, float]]:
    """For every group and key the next group that holds the key, infinity where there is none."""
    later: dict[Key, float] = {}
    ahead: list[dict[Key, float]] = []
    for index in range(len(trace) - 1, -1, -1):
        ahead.append({key: later.get(key, math.inf) for key in trace[index]})
        later |= dict.fromkeys(trace[index], index)
    return ahead[::-1]


def _must_fit(group: Iterable[Key], capacity: int) -> None:
    if len(set(group)) > capacity:
        raise ValueError(f"{len(set(group))} experts are needed at once, the memory holds {capacity}")


def zipf_trace(rng, steps: int, layers: int, experts: int, top_k: int, skew: float, stay: float) -> Iterator[list[Key]]:
    """Made-up routing: each layer's experts fall off as 1 / rank^skew, and a share ``stay`` is taken over from before.

    ``rng`` is a numpy Generator; ``skew`` 0 is uniform routing. Yields steps * layers groups of ``top_k`` keys.
    """
    weights = [(rank + 1.0) ** -skew for rank in range(experts)]
    shares = [rng.permutation(weights) for _ in range(layers)]
    last: list[list[int]] = [[] for _ in range(layers)]
    for _ in range(steps):
        for layer in range(layers):
            kept = [expert for expert in last[layer] if rng.random() < stay]
            free = shares[layer].copy()
            free[kept] = 0
            fresh = rng.choice(experts, top_k - len(kept), replace=False, p=free / free.sum())
            last[layer] = kept + [int(expert) for expert in fresh]
            yield [(layer, expert) for expert in last[layer]]
