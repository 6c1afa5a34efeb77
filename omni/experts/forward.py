"""The experts function registered with transformers: tokens through the 4-bit experts that a cache holds or fetches.

One token takes the decode path: all its experts are pinned at once, those in place are computed while the others come.
More tokens take the prefill path: expert by expert in the order of the file, each touched once, the next ones coming
while one is computed. Which path is taken depends on the number of tokens alone, and every sum is in one order, so the
answer is the same, bit by bit, whatever is in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from omni.experts.cache import BudgetError, Slot, SlotCache
from omni.experts.kernels import Kernel
from omni.experts.stats import RoutingLog

IMPLEMENTATION = "omni_nf4"
PASSING_TOKENS = 16  # from here on, what is fetched makes way first
LOOKAHEAD = 3  # experts on their way while one is computed in a prefill


@dataclass(eq=False)
class LayerExperts:
    """The experts of one layer: where they are held, how they are applied, and which router comes next."""

    layer: int  # within its pool
    cache: SlotCache
    kernel: Kernel
    routing: RoutingLog
    next_router: nn.Module | None = None  # of the next layer of the same pool
    top_k: int = 1
    foresight: Foresight | None = None


@dataclass(eq=False)
class Foresight:
    """Fetching ahead what the next layer's router would choose now; it is left off where waiting does not get less.

    Windows of tokens with and without it are compared by the time that a token takes, as a median: a pause between two
    answers is no token. State: whether it is on, the seconds a token in the last window of each kind, and those of the
    tokens of the present window.
    """

    window: int = 24  # tokens
    rest: int = 480  # tokens between two comparisons
    on: bool = True
    forced: bool | None = None  # on or off, whatever the comparison says
    seconds: dict[bool, float] = field(default_factory=dict)
    trying: bool = True
    lasted: list[float] = field(default_factory=list)
    started: float | None = None

    @property
    def wanted(self) -> bool:
        return self.on if self.forced is None else self.forced

    def token(self) -> None:
        """A decoded token begins."""
        now = time.perf_counter()
        if self.started is not None:
            self.lasted.append(now - self.started)
        self.started = now
        if len(self.lasted) < (self.window if self.trying else self.rest):
            return
        if not self.trying:
            self.seconds.clear()
            self.trying = True
        else:
            self.seconds[self.on] = median(self.lasted)
            if len(self.seconds) < 2:
                self.on = not self.on
            else:
                self.on = self.seconds[True] < self.seconds[False]
                self.trying = False
        self.lasted.clear()


def experts_forward(self: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Tokens (T, H), their experts (T, k) and weights (T, k) to (T, H); ``self.resident`` is set by ``loading``."""
    bound: LayerExperts = self.resident
    chosen = top_k_index.tolist()
    bound.routing.note(bound.layer, chosen)
    x = hidden_states.to(bound.kernel.dtype).contiguous()
    with torch.no_grad():
        if len(chosen) == 1:
            mixed = _decode(self, bound, x, chosen[0], top_k_weights[0])
        else:
            mixed = _prefill(self, bound, x, chosen, top_k_weights)
    return mixed.to(hidden_states.dtype)


def _decode(module: nn.Module, bound: LayerExperts, x: Tensor, chosen: list[int], weights: Tensor) -> Tensor:
    """One token (1, H) through its experts (k), to (1, H)."""
    cache, kernel = bound.cache, bound.kernel
    cache.stats.phase = "decode"
    slots = cache.acquire([(bound.layer, expert) for expert in chosen])
    try:
        if not cache.complete:
            _look_ahead(bound, x)
        if all(slot.coming is None for slot in slots):
            made = kernel.experts(module, x, [slot.operand for slot in slots])
        else:
            rows = {i: kernel.experts(module, x, [cache.wait(slots[i])]) for i in _late_ones_last(slots)}
            made = torch.cat([rows[i] for i in range(len(slots))])
    finally:
        cache.release(slots)
    return torch.mv(made.float().T, weights.float())[None]


def _late_ones_last(slots: list[Slot]) -> list[int]:
    """The numbers of ``slots``, those whose expert is still on its way behind the others."""
    return sorted(range(len(slots)), key=lambda i: (coming := slots[i].coming) is not None and not coming.done())


def _prefill(module: nn.Module, bound: LayerExperts, x: Tensor, chosen: list[list[int]], weights: Tensor) -> Tensor:
    """Tokens (T, H) through their experts (T, k), to (T, H) float32."""
    cache, kernel = bound.cache, bound.kernel
    passing = len(chosen) >= PASSING_TOKENS
    cache.stats.phase = "prefill" if passing else "decode"
    users: dict[int, list[tuple[int, int]]] = {}  # expert -> (token, which of its k)
    for token, experts in enumerate(chosen):
        for place, expert in enumerate(experts):
            users.setdefault(expert, []).append((token, place))
    order = sorted(users)
    mixed = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    share = weights.float()
    held: list[Slot] = []  # pinned, the one to be computed first
    try:
        for index, expert in enumerate(order):
            _hold_some(bound, order[index + len(held) : index + LOOKAHEAD + 1], held, passing)
            gate_up, down = cache.wait(held[0])
            tokens, places = torch.tensor(users[expert], device=x.device).unbind(1)
            lowered = kernel.apply(module._apply_gate(kernel.apply(x[tokens], gate_up)), down)
            mixed.index_add_(0, tokens, lowered.float() * share[tokens, places][:, None])
            cache.release([held.pop(0)])
    finally:
        cache.release(held)
    return mixed


def _hold_some(bound: LayerExperts, wanted: Iterable[int], held: list[Slot], passing: bool) -> None:
    """Add to the slots that are ``held`` those of the experts ``wanted``: one at least, more as far as there is room.

    The room is found out by asking, since it may change at any time.
    """
    for expert in wanted:
        try:
            held += bound.cache.acquire([(bound.layer, expert)], passing)
        except BudgetError:
            if not held:
                raise
            return


def _look_ahead(bound: LayerExperts, x: Tensor) -> None:
    """Fetch what the next layer's router would choose for this layer's input: the stream changes little in between."""
    if bound.foresight is None:
        return
    if bound.layer == 0:
        bound.foresight.token()
    if bound.next_router is None or not bound.foresight.wanted:
        return
    router = bound.next_router.weight
    guess = F.linear(x.to(router.dtype), router).topk(bound.top_k, -1).indices[0].tolist()
    bound.cache.prefetch([(bound.layer + 1, expert) for expert in guess])


def register() -> None:
    """Have transformers know the function under IMPLEMENTATION; once or many times."""
    ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, experts_forward)
