"""What the engines show of their inside: the parts of a model, where its experts are, and a budget that may change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

import psutil
import torch
from torch import nn

from omni.engine import Card, Component, Memory, PoolMemory
from omni.engines.teams import disband
from omni.errors import OmniError
from omni.experts.cache import BudgetError
from omni.experts.kernels import Cuda, Floats, Kernel, Native, Packed, Unpacked
from omni.experts.linear import FourBitLinear
from omni.experts.residence import Experts

KERNELS = {  # how experts are multiplied, in words
    Native: "NF4, multiplied by our own products in C",
    Packed: "NF4 in tiles, multiplied by bitsandbytes with AVX512-BF16",
    Cuda: "NF4, multiplied by bitsandbytes on the GPU",
    Unpacked: "NF4, unpacked for each use",
    Floats: "NF4 in the file, floats in memory",
}


class Amount(NamedTuple):
    """Parameters, their bytes in memory, and the precisions that they are in."""

    parameters: int
    bytes: int
    precisions: frozenset[str]

    def plus(self, other: Amount) -> Amount:
        return Amount(self.parameters + other.parameters, self.bytes + other.bytes, self.precisions | other.precisions)


class Inspection:
    """Looks into a model whose experts are ``experts``. State: the experts, and the most that they may ever take.

    That is what they may take now: whoever started the server gave it, and a visitor does not go beyond.
    """

    def __init__(self, experts: Experts, card: Card):
        self.experts, self._card = experts, card
        self.most = experts.budget
        self._changing = threading.Lock()

    def card(self) -> Card:
        """See omni.engine.Inside."""
        return self._card

    def memory(self) -> Memory:
        """See omni.engine.Inside."""
        experts, device = self.experts, self.experts.device
        on_gpu = device.type == "cuda"
        gpu = on_gpu and torch.cuda.is_initialized()
        return Memory(
            device=torch.cuda.get_device_name(device) if gpu else _processor(device),
            on_gpu=on_gpu,
            pools=tuple(
                PoolMemory(held.pool.name, held.resident(), held.top_k, held.cache.slot_bytes) for held in experts.pools
            ),
            held=experts.bytes_held,
            budget=experts.budget,
            least=experts.least_bytes,
            most=max(self.most, experts.budget),
            everything=experts.most_bytes,
            tier=sum(held.below.bytes_held for held in experts.pools if held.below),
            file=experts.slab.contents.size,
            process=psutil.Process().memory_info().rss,
            ram=psutil.virtual_memory().total,
            gpu=torch.cuda.memory_allocated(device) if gpu else 0,
            gpu_total=torch.cuda.get_device_properties(device).total_memory if gpu else 0,
        )

    def set_experts_memory(self, budget: int) -> Memory:
        """See omni.engine.Inside."""
        if budget > self.most:
            raise OmniError(f"Experts may take {self.most / 1e6:,.1f} MB at most here; please choose less.")
        try:
            with self._changing:
                self.experts.resize(budget)
                disband()  # the thread is the page's, and will not compute for a while
        except BudgetError as error:
            raise OmniError(f"This cannot work: {error}.") from error
        return self.memory()


def components_of(
    model: nn.Module, experts: Experts, row: Callable[[str], str], beside: Iterable[tuple[str, nn.Module]] = ()
) -> tuple[Component, ...]:
    """The parts of a model by the ``row`` that each module's name belongs to, its experts, and what stands ``beside``.

    What is shared between modules counts where it comes first.
    """
    rows: dict[str, Amount] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        if (amount := _own(module, seen)).bytes:
            rows[row(name)] = amount.plus(rows.get(row(name), Amount(0, 0, frozenset())))
    for name, module in beside:
        for part in module.modules():
            rows[name] = _own(part, seen).plus(rows.get(name, Amount(0, 0, frozenset())))
    place = "GPU" if experts.device.type == "cuda" else "RAM"
    dense = [Component(name, one.parameters, one.bytes, _listed(one.precisions), place) for name, one in rows.items()]
    return (*_expert_rows(experts, place), *dense)


def routed_parameters(experts: Experts) -> tuple[int, int]:
    """How many parameters all experts have, and how many of them a token uses."""
    every = active = 0
    for held in experts.pools:
        one = sum(matrix.rows * matrix.columns for matrix in held.pool.shape.matrices)
        every += one * held.pool.records
        active += one * held.top_k * len(held.pool.layers)
    return every, active


def kernel_in_words(kernel: Kernel) -> str:
    """How experts are held and multiplied."""
    return KERNELS.get(type(kernel), type(kernel).__name__)


def _expert_rows(experts: Experts, place: str) -> Iterable[Component]:
    for held in experts.pools:
        one = sum(matrix.rows * matrix.columns for matrix in held.pool.shape.matrices)
        layers, count = len(held.pool.layers), held.pool.experts
        name = f"{layers} x {count} experts" + (f" ({held.pool.name})" if len(experts.pools) > 1 else "")
        where = f"{place} as far as the budget goes; all of them in the file"
        yield Component(name, one * held.pool.records, held.most_bytes, kernel_in_words(held.kernel), where)


def _own(module: nn.Module, seen: set[int]) -> Amount:
    """What a module itself holds and no module before it."""
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    new = [tensor for tensor in tensors if id(tensor) not in seen]
    seen.update(map(id, new))
    held = sum(tensor.numel() * tensor.element_size() for tensor in new)
    if isinstance(module, FourBitLinear):
        return Amount(module.in_features * module.out_features, held, frozenset({"NF4"}))
    count = sum(tensor.numel() for tensor in new if isinstance(tensor, nn.Parameter))
    kinds = (str(tensor.dtype).removeprefix("torch.") for tensor in new if isinstance(tensor, nn.Parameter))
    return Amount(count, held, frozenset(kinds))


def _listed(precisions: frozenset[str]) -> str:
    return " and ".join(sorted(precisions)) or "none"


def _processor(device: torch.device) -> str:
    if device.type != "cpu":
        return "a GPU, not taken yet"
    threads = torch.get_num_threads()
    return f"the processor, {threads} thread{'' if threads == 1 else 's'}"
