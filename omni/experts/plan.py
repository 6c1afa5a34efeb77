"""What fits into which memory, told from a model's configuration alone: nothing is fetched, loaded or measured.

    dense part and towers | keys and values | workspace | the rest is for experts, at least those of a token in a layer

The model is made without memory and its tensors are counted, so a plan has the bytes that ``loading`` will take. It
assumes that a prompt is read in one piece and that the head is asked for its last position alone, as ``generate`` does
where a model's forward lets it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from omni.experts.cache import BudgetError
from omni.experts.kernels import Kernel, Unpacked, best_kernel
from omni.experts.linear import TOWERS, worth_packing
from omni.experts.loading import pools_of, skeleton, top_k_of
from omni.experts.record import LoneMatrix
from omni.experts.residence import dealt_out, wanted
from omni.experts.slab import Pool
from omni.experts.wide import product_dtype

PUBLISHED = Path(__file__).parent / "published"
DTYPE = torch.bfloat16
CONTEXT = 8192  # tokens
PROCESS = {  # bytes before the first tensor, and what they are
    "cuda": (600_000_000, "CUDA context and kernels, assumed"),  # differs by card and driver; never measured by us
    "cpu": (500_000_000, "interpreter and libraries"),  # 330 MB seen with Qwen3-Omni's classes; the page comes on top
}
ACTIVATIONS = 14  # hidden states alive at once in a prefill; 12.6 were counted in two layers of Qwen3-30B-A3B's sizes
TOWER_BYTES = 900_000_000  # an encoder at four pictures of 1,024 pixels: 870 MB were measured,
TOWER_TOKEN_BYTES = 700_000  # and 530 MB at a minute of sound, which is 780 tokens
CARDS = (  # what is sold as N GB has N GiB; N GB, 93% of that, are planned with: driver and screen take some
    ("8 GB card", "8GB", "cuda"),
    ("12 GB card", "12GB", "cuda"),
    ("16 GB card", "16GB", "cuda"),
    ("24 GB card", "24GB", "cuda"),
    ("24 GB of RAM, no card", "22GB", "cpu"),  # 85%: a whole system lives beside it
)
SHOWN = "Qwen/Qwen3-Omni-30B-A3B-Instruct"  # in the table of cards
UNITS = ((10**9, "GB", 2), (10**6, "MB", 1), (1000, "kB", 1))  # and the decimals that are shown

_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b)?\s*", re.IGNORECASE | re.ASCII)


def parse_memory(text: str) -> int:
    """``12GB``, ``900MB``, ``0.5 GiB`` or a number of bytes, in bytes: GB are 10^9, GiB 2^30. Raises ValueError."""
    if found := _AMOUNT.fullmatch(text):
        number, prefix, binary = found.groups()
        amount = int(Fraction(number) * (1024 if binary else 1000) ** " kmgt".index((prefix or " ").lower()))
        if amount > 0:
            return amount
    raise ValueError(f"{text!r} is no amount of memory; write 12GB, 900MB, 0.5GiB or a number of bytes.")


def in_words(amount: int) -> str:
    """Bytes in a unit that suits them."""
    unit, name, digits = next((one for one in UNITS if amount >= one[0]), UNITS[-1])
    return f"{amount / unit:,.{digits}f} {name}"


def enough(amount: int) -> str:
    """The least amount with one decimal that is not less, as ``parse_memory`` reads it."""
    unit, name, _ = next((one for one in UNITS if amount >= one[0]), UNITS[-1])
    tenths = -(-amount * 10 // unit)
    return f"{tenths // 10}.{tenths % 10}{name}"


def find_config(model: str) -> tuple[PreTrainedConfig, str]:
    """The configuration of a folder, of a repository in the hub's cache or of one shipped here, and where it is from.

    Raises ValueError with a sentence where there is none, or none of a model that can be made.
    """
    if Path(model).is_dir():
        return _read(Path(model)), str(Path(model) / "config.json")
    try:
        cached = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        cached = None
    if isinstance(cached, str):
        return _read(Path(cached).parent), cached
    shipped = PUBLISHED / f"{model.replace('/', '--')}.json"
    if not shipped.is_file():
        known = " and ".join(sorted(path.stem.replace("--", "/") for path in PUBLISHED.glob("*.json")))
        raise ValueError(
            f"There is no folder {model}, no such repository in the hub's cache, and no such configuration among those "
            f"shipped here: {known}."
        )
    values = json.loads(shipped.read_text())
    del values["about"]
    source = f"omni/experts/published/{shipped.name}, whose first lines say where its values are from"
    return AutoConfig.for_model(values.pop("model_type"), **values), source


def _read(folder: Path) -> PreTrainedConfig:
    if not (folder / "config.json").is_file():
        raise ValueError(f"There is no config.json in {folder}.")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise ValueError(f"{folder / 'config.json'} cannot be used: {why}") from error


@dataclass(frozen=True)
class PlannedPool:
    """The experts of one pool, and the ``dealt`` bytes that they may take."""

    pool: Pool
    top_k: int
    slot_bytes: int
    dealt: int = 0

    @property
    def least_bytes(self) -> int:
        """What one token needs in one layer."""
        return self.top_k * self.slot_bytes

    @property
    def most_bytes(self) -> int:
        return self.pool.records * self.slot_bytes

    @property
    def resident(self) -> int:
        """How many experts are in memory at once."""
        return min(self.pool.records, self.dealt // self.slot_bytes)

    @property
    def token_bytes(self) -> int:
        """The experts that a token reads, in all layers: what is brought for it where none of them is in memory."""
        return len(self.pool.layers) * self.top_k * self.pool.shape.record_bytes

    def fastest(self, hit_rate: float, bandwidth: float) -> float:
        """Tokens a second where bringing experts, at ``bandwidth`` bytes a second, were all that takes time."""
        missed = (1 - hit_rate) * self.token_bytes
        return bandwidth / missed if missed > 0 else float("inf")


@dataclass(frozen=True)
class Inventory:
    """What a model consists of.

    ``dense`` has for each row its bytes in 16 bits, and with its linears in 4; ``towers`` are the rows that stay in 16.
    ``unpacked_bytes`` is what the largest 4-bit linear takes while it is floats.
    """

    config: PreTrainedConfig
    device: str
    dense: dict[str, tuple[int, int]]
    towers: frozenset[str]
    unpacked_bytes: int
    pools: tuple[PlannedPool, ...]

    @property
    def decoders(self) -> dict[str, PreTrainedConfig]:
        """The configurations of the decoders that have experts, by the names of their pools."""
        names = (held.pool.name for held in self.pools)
        parts = {name: getattr(self.config, f"{name}_config", self.config) for name in names}
        return {name: getattr(part, "text_config", part) for name, part in parts.items()}


def make_model(config: PreTrainedConfig) -> PreTrainedModel:
    """The model without memory. Raises ValueError for a configuration that lacks something or contradicts itself."""
    try:
        return skeleton(config)
    except (AttributeError, KeyError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"No model can be made of this configuration: {str(error).partition(chr(10))[0]}") from error


def take_inventory(config: PreTrainedConfig, device: str = "cuda") -> Inventory:
    """Count the tensors of a model. Raises ValueError (UnsupportedLayout) for one that ``loading`` would refuse.

    On a CPU a table of embeddings stays in the mapped file, where a text touches few of its pages: it is not counted,
    unless a head is tied to it.
    """
    model = make_model(config)
    pools = pools_of(model)
    shapes = [pool.shape for pool in pools]
    kernel = Unpacked(DTYPE) if device == "cuda" else best_kernel(shapes, torch.device(device), DTYPE)
    experts = {name for pool in pools for name in pool.layers}
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    dense: dict[str, tuple[int, int]] = {}
    towers: set[str] = set()
    fused = device == "cuda" or type(kernel) is not Unpacked  # one token, all that a head reads, stays in 4 bits
    floats = product_dtype(torch.device(device), DTYPE).itemsize
    unpacked, seen = 0, set()
    for name, module in model.named_modules():
        in_file = device == "cpu" and not tied and isinstance(module, nn.Embedding)
        if name in experts or in_file or not (whole := _bytes_of(module, seen)):
            continue
        row, packed = _row_of(name, module), whole
        towers |= {row} & set(TOWERS)
        if type(module) is nn.Linear and f"{name}.weight" not in tied and worth_packing(name, module, kernel):
            packed = _packed_bytes(module, kernel)
            if not (fused and name.endswith("head")):
                unpacked = max(unpacked, module.weight.numel() * floats)
        before = dense.get(row, (0, 0))
        dense[row] = before[0] + whole, before[1] + packed
    planned = [PlannedPool(pool, top_k_of(config, pool.name), kernel.slot_bytes(pool.shape)) for pool in pools]
    return Inventory(config, device, dense, frozenset(towers), unpacked, tuple(planned))


def _row_of(name: str, module: nn.Module) -> str:
    """The row that a module counts to."""
    steps = name.split(".")
    if tower := next((step for step in steps if step in TOWERS), None):
        return tower
    part = steps[0] if steps[0] in ("thinker", "talker") else "model"
    return f"{part}, {'embeddings and head' if isinstance(module, nn.Embedding) or name.endswith('head') else 'layers'}"


def _bytes_of(module: nn.Module, seen: set[int]) -> int:
    """Bytes of a module's own parameters in bf16 and of its own buffers; what is shared counts where it comes first."""
    amount = 0
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if id(tensor) not in seen:
            size = DTYPE.itemsize if isinstance(tensor, nn.Parameter) else tensor.element_size()
            amount += tensor.numel() * size
        seen.add(id(tensor))
    return amount


def _packed_bytes(linear: nn.Linear, kernel: Kernel) -> int:
    bias = 0 if linear.bias is None else linear.bias.numel() * DTYPE.itemsize
    return kernel.slot_bytes(LoneMatrix(linear.out_features, linear.in_features)) + bias


def kv_bytes(config: PreTrainedConfig, tokens: int) -> int:
    """Bytes of the keys and values of a decoder's layers; state that does not grow with the text is left out."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    window = getattr(config, "sliding_window", None) or tokens
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    positions = {"full_attention": tokens, "sliding_attention": min(tokens, window)}
    return 2 * DTYPE.itemsize * heads * size * sum(positions.get(kind, 0) for kind in kinds)


@dataclass(frozen=True)
class Part:
    """Something that is in memory whatever the experts get."""

    name: str
    bytes: int
    about: str


@dataclass(frozen=True)
class Plan:
    """How ``memory`` bytes are dealt. ``loading_bytes``: the peak of loading, while no expert is there yet."""

    memory: int
    device: str
    context_tokens: int
    four_bit_dense: bool
    parts: tuple[Part, ...]
    loading_bytes: int
    pools: tuple[PlannedPool, ...]

    @property
    def fixed_bytes(self) -> int:
        """All but experts."""
        return sum(part.bytes for part in self.parts)

    @property
    def least_bytes(self) -> int:
        """The experts of one token in one layer, of every pool."""
        return sum(held.least_bytes for held in self.pools)

    @property
    def most_bytes(self) -> int:
        """All experts."""
        return sum(held.most_bytes for held in self.pools)

    @property
    def needed_bytes(self) -> int:
        """The least memory that works."""
        return max(self.fixed_bytes + self.least_bytes, self.loading_bytes)

    @property
    def experts_bytes(self) -> int:
        """What is left for experts: the ``memory`` that ``loading.load_model`` is given."""
        return self.memory - self.fixed_bytes

    @property
    def share(self) -> float:
        """How much of all experts is in memory, 0..1."""
        return sum(held.resident * held.slot_bytes for held in self.pools) / self.most_bytes


def plan_for(
    config: PreTrainedConfig,
    memory: int,
    device: str = "cuda",
    context_tokens: int | None = None,
    four_bit_dense: bool = False,
) -> Plan:
    """Deal ``memory`` bytes of ``device``, ``cuda`` or ``cpu``; without ``context_tokens`` for up to 8,192 tokens.

    Raises BudgetError with the number that would do where the memory is too little, and ValueError for a context that
    the model cannot take or for a model that ``loading`` would refuse.
    """
    return plan_with(take_inventory(config, device), memory, context_tokens, four_bit_dense)


def plan_with(
    inventory: Inventory, memory: int, context_tokens: int | None = None, four_bit_dense: bool = False
) -> Plan:
    """``plan_for`` with the model counted already."""
    limit = min(getattr(one, "max_position_embeddings", None) or CONTEXT for one in inventory.decoders.values())
    tokens = min(limit, CONTEXT) if context_tokens is None else context_tokens
    if not 1 <= tokens <= limit:
        raise ValueError(f"This model takes a context of 1 to {limit:,} tokens, not of {tokens:,}.")
    plan = _empty(inventory, memory, tokens, four_bit_dense)
    if memory < plan.needed_bytes:
        raise BudgetError(_refusal(plan, _empty(inventory, memory, tokens, True)))
    dealt = dealt_out(plan.experts_bytes, wanted(plan.pools), plan.pools)
    pools = [replace(held, dealt=amount) for held, amount in zip(plan.pools, dealt, strict=True)]
    return replace(plan, pools=tuple(pools))


def blank_plan(inventory: Inventory, four_bit_dense: bool = False) -> Plan:
    """What a model needs at a context of 8,192 tokens, before there is a memory to deal."""
    return _empty(inventory, 0, CONTEXT, four_bit_dense)


def _empty(inventory: Inventory, memory: int, tokens: int, four_bit_dense: bool) -> Plan:
    """The plan before any memory is dealt to experts."""
    parts = tuple(_parts(inventory, tokens, four_bit_dense))
    loading = PROCESS[inventory.device][0] + sum(whole for whole, _ in inventory.dense.values())
    return Plan(memory, inventory.device, tokens, four_bit_dense, parts, loading, inventory.pools)


def _parts(inventory: Inventory, tokens: int, four_bit_dense: bool) -> Iterator[Part]:
    """All but experts."""
    for row, amounts in inventory.dense.items():
        packed = four_bit_dense and row not in inventory.towers
        yield Part(row.replace("_", " "), amounts[packed], "linears in 4 bits" if packed else "16 bits")
    decoders = inventory.decoders
    for name, decoder in decoders.items():
        amount = kv_bytes(decoder, tokens)
        yield Part(
            f"{'model' if name == 'experts' else name}, keys and values",
            amount,
            f"{tokens:,} tokens, {amount / tokens / 1024:.4g} KiB each",
        )
    prefill = ACTIVATIONS * tokens * DTYPE.itemsize * max(decoder.hidden_size for decoder in decoders.values())
    encoder = min(TOWER_BYTES, tokens * TOWER_TOKEN_BYTES) if inventory.towers else 0
    work = max(prefill, encoder) + inventory.unpacked_bytes * four_bit_dense
    about = "an encoder, or a prompt of that length at once" if inventory.towers else "a prompt of that length at once"
    yield Part("activations", work, about)
    yield Part("process", *PROCESS[inventory.device])


def _refusal(plan: Plan, smaller: Plan) -> str:
    """Why a plan cannot work, and the least that would do."""
    advice = f"{enough(plan.needed_bytes)} would do"
    if smaller.needed_bytes < plan.needed_bytes:
        advice += f", or {enough(smaller.needed_bytes)} with its dense part in 4 bits"
    return (
        f"{in_words(plan.memory)} are too little for this model on {plan.device} with a context of "
        f"{plan.context_tokens:,} tokens: {advice}. It takes {in_words(plan.fixed_bytes)} without experts and "
        f"{in_words(plan.least_bytes)} for those of one token in one layer, and {in_words(plan.loading_bytes)} to load."
    )


def cards_table() -> str:
    """Which memory for which card, as a Markdown table: how much of the experts of ``SHOWN`` each would hold."""
    config, _ = find_config(SHOWN)
    inventories = {device: take_inventory(config, device) for device in ("cuda", "cpu")}
    lines = ["| machine | `--memory` | experts in memory | with the dense part in 4 bits |", "|---|---|---|---|"]
    for name, memory, device in CARDS:
        cells = [_cell(inventories[device], parse_memory(memory), packed) for packed in (False, True)]
        lines.append(f"| {name} | {memory} | {' | '.join(cells)} |")
    command = f"`python -m omni.experts plan {SHOWN} --memory 12GB`"
    return "\n".join([*lines, "", f"Computed for a context of {CONTEXT:,} tokens, as {command} does.", ""])


def _cell(inventory: Inventory, memory: int, four_bit_dense: bool) -> str:
    try:
        plan = plan_with(inventory, memory, None, four_bit_dense)
    except BudgetError:
        return f"needs {enough(_empty(inventory, memory, CONTEXT, four_bit_dense).needed_bytes)}"
    return f"{100 * plan.share:.0f}%, {in_words(plan.experts_bytes)}"
