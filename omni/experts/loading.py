"""Load a mixture-of-experts model with its experts in 4 bits, under a budget of memory.

The dense part goes through transformers' ``from_pretrained``; the experts never do: their parameters are taken out of
the skeleton before anything is read, and come from a slab, which is made of the checkpoint once. So the peak of loading
is the dense part and one expert.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.quantizers import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from omni.experts import conversion, forward
from omni.experts.cache import too_little
from omni.experts.decode import shorten
from omni.experts.kernels import Kernel, Native, best_kernel
from omni.experts.linear import pack_linears
from omni.experts.norms import fuse_norms
from omni.experts.policy import DEFAULT
from omni.experts.record import ExpertShape
from omni.experts.residence import Experts
from omni.experts.slab import Pool, Slab, SlabError
from omni.experts.wide import product_dtype, widen

log = logging.getLogger(__name__)
METHOD = "omni_experts"


class UnsupportedLayout(ValueError):
    """Experts that are laid out in a way that this package does not compute; the text names it."""


@register_quantization_config(METHOD)
class ExpertsConfig(QuantizationConfigMixin):
    """Tells ``from_pretrained`` to leave the experts out."""

    def __init__(self, **kwargs):
        self.quant_method = METHOD


@register_quantizer(METHOD)
class ExpertsQuantizer(HfQuantizer):
    """Takes the experts' parameters out of the skeleton, so that nothing is read or made for them."""

    requires_calibration = False

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **kwargs) -> PreTrainedModel:
        take_out_experts(model)
        known = model._keys_to_ignore_on_load_unexpected or ()
        model._keys_to_ignore_on_load_unexpected = {*known, r"\.experts\.(\d+\.|gate_up_proj|down_proj)"}
        return model

    def is_serializable(self, **kwargs) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


@dataclass
class Loaded:
    """A model, and the memory of its experts."""

    model: PreTrainedModel
    experts: Experts


def expert_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules of fused experts and their names, in the model's order."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if hasattr(module, "_apply_gate") or (hasattr(module, "gate_up_proj") and hasattr(module, "down_proj")
                                              and getattr(module, "num_experts", 0) > 1)
    ]  # fmt: skip


def take_out_experts(model: nn.Module) -> None:
    """Leave the modules of experts without parameters: they compute with what ``bind`` gives them."""
    for name, module in expert_modules(model):
        del module.gate_up_proj, module.down_proj
        for owner in (module, model.get_submodule(name.rpartition(".")[0])):  # some models fill them from the block
            owner._is_hf_initialized = True  # there is nothing to initialise


def check_layout(name: str, module: nn.Module) -> None:
    """Raises UnsupportedLayout where the module's experts are not [gate; up] in rows without bias."""
    kind = type(module).__name__
    flaws = {
        "interleaved": not getattr(module, "is_concatenated", True),
        "transposed": getattr(module, "is_transposed", False),
        "biased": getattr(module, "has_bias", False),
        "gateless": not getattr(module, "has_gate", True),
        "normalised after each expert": getattr(module, "has_post_expert_norm", False),
    }
    if found := [flaw for flaw, there in flaws.items() if there]:
        raise UnsupportedLayout(f"{kind} ({name}) has {' and '.join(found)} experts, which are not computed here yet")
    if not hasattr(module, "config") or not hasattr(module, "is_concatenated"):
        raise UnsupportedLayout(f"{kind} ({name}) does not take other experts functions")


def pools_of(model: nn.Module) -> tuple[Pool, ...]:
    """The pools of a model: experts of one size in one part of it. Raises UnsupportedLayout, or ValueError for none."""
    found: dict[tuple, list[str]] = {}
    for name, module in expert_modules(model):
        check_layout(name, module)
        experts, hidden, inner = module.down_proj.shape
        part = name.split(".")[0] if name.split(".")[0] in ("thinker", "talker") else "experts"
        found.setdefault((part, experts, hidden, inner), []).append(name)
    if not found:
        raise ValueError(f"{type(model).__name__} has no experts that could be kept in 4 bits")
    return tuple(
        Pool(part, tuple(layers), experts, ExpertShape(hidden, inner))
        for (part, experts, hidden, inner), layers in found.items()
    )


def model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class that a checkpoint was saved as. Raises ValueError where this version of transformers lacks it."""
    for name in config.architectures or ():
        if found := getattr(transformers, name, None):
            return found
    try:
        return AutoModelForCausalLM._model_mapping[type(config)]
    except KeyError as error:
        raise ValueError(f"transformers {transformers.__version__} knows no model for {config.model_type}") from error


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """The model without memory."""
    with torch.device("meta"):
        return model_class(config)(config)


def open_slab(
    checkpoint: Path, folder: Path, pools: tuple[Pool, ...], kernel: Kernel, progress, device: torch.device
) -> Slab:
    """The slab of a checkpoint in the layout that ``kernel`` wants, made in ``folder`` where it is not there yet."""
    identity = conversion.identity_of(checkpoint)
    path = folder / f"experts-{identity[:16]}-{kernel.layout}.slab"
    if path.exists():
        return Slab.open(path, identity)
    other = "tiles" if kernel.layout == "rows" else "rows"
    sibling = folder / f"experts-{identity[:16]}-{other}.slab"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SlabError(f"The experts cannot be kept in {folder} ({error.strerror}); name another folder.") from error
    if sibling.exists():
        with Slab.open(sibling, identity) as slab:
            conversion.repack(slab, path, kernel.layout, progress)
    else:
        conversion.convert(checkpoint, path, pools, identity, kernel.layout, progress, device)
    return Slab.open(path, identity)


def load_model(
    checkpoint: str | Path,
    memory: int | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    folder: Path | None = None,
    four_bit_dense: bool = False,
    policy: str = DEFAULT,
    kernel: Kernel | None = None,
    progress: Callable[[int, int], None] | None = None,
    at_once: bool = False,
    **options,
) -> Loaded:
    """Load a checkpoint with at most ``memory`` bytes of experts in the memory of ``device``; None for all of them.

    ``checkpoint`` is a folder of safetensors, or a repository on the hub (``revision`` among the ``options``, which go
    to ``from_pretrained``). The slab is made beside it, or in ``folder``. With ``four_bit_dense`` the linear layers
    that each token reads, the head among them, are kept in 4 bits too; see ``pack_linears``. ``at_once`` brings all
    experts now, see ``Experts.bring_all``. Raises OSError, ValueError (UnsupportedLayout, BudgetError) or SlabError,
    each with a sentence.
    """
    device = torch.device(device)
    source = _local(checkpoint, options.pop("revision", None))
    config = AutoConfig.from_pretrained(source)
    pools = pools_of(skeleton(config))
    kernel = kernel or best_kernel([pool.shape for pool in pools], device, dtype)
    check_budget(config, pools, kernel, memory)
    slab = open_slab(source, Path(folder or source), pools, kernel, progress, device)
    forward.register()  # from_pretrained looks the name up
    with _refused_as_sentences():
        model, report = model_class(config).from_pretrained(
            source,
            config=config,
            dtype=dtype,
            quantization_config=ExpertsConfig(),
            experts_implementation=forward.IMPLEMENTATION,
            device_map={"": device},
            output_loading_info=True,
            **options,
        )
    if lacking := sorted(report["missing_keys"]):
        raise SlabError(f"{source} lacks {lacking[0]} ({len(lacking)} tensors in all); fetch the checkpoint again.")
    experts = hold(model, slab, kernel, device, memory, policy)
    if at_once:
        experts.bring_all()
    if four_bit_dense:
        pack_linears(model, kernel)
    fuse_norms(model)
    if product_dtype(device, dtype) is not dtype:
        widen(model)
    if isinstance(kernel, Native):
        shorten(model, kernel)
    check_loaded(model)
    log.info("%s", experts.describe())
    return Loaded(model.eval(), experts)


def hold(
    model: PreTrainedModel,
    slab: Slab,
    kernel: Kernel,
    device: torch.device,
    memory: int | None = None,
    policy: str = DEFAULT,
) -> Experts:
    """Have ``model``, whose experts were taken out, compute with those in ``slab``. Raises BudgetError."""
    forward.register()
    experts = Experts(slab, kernel, device, [top_k_of(model.config, pool.name) for pool in slab.pools], policy)
    bind(model, experts)
    if memory is not None:
        experts.resize(memory)
    return experts


def bind(model: nn.Module, experts: Experts) -> None:
    """Connect each module of experts with its place in ``experts``, and with the router that comes after it."""
    modules = dict(model.named_modules())
    for pool, held in zip(experts.slab.pools, experts.pools, strict=True):
        routers = [router_of(modules[name.rpartition(".")[0]]) for name in pool.layers]
        for layer, name in enumerate(pool.layers):
            module = modules[name]
            following = routers[layer + 1] if layer + 1 < len(routers) else None
            module.resident = held.layer(layer, following)
            module.config._experts_implementation = forward.IMPLEMENTATION


def router_of(block: nn.Module) -> nn.Module | None:
    """The router beside a block's experts, a module with a ``weight`` (experts, hidden), or None."""
    for name in ("gate", "router"):
        router = getattr(block, name, None)
        if isinstance(getattr(router, "weight", None), Tensor):
            return router
    return None


def top_k_of(config: PreTrainedConfig, pool: str) -> int:
    """How many experts a token takes in that pool."""
    part = getattr(config, f"{pool}_config", config)
    part = getattr(part, "text_config", part)
    for name in ("num_experts_per_tok", "moe_topk", "top_k"):
        if isinstance(count := getattr(part, name, None), int):
            return count
    raise ValueError(f"{type(config).__name__} does not say how many experts a token takes in {pool}")


def check_budget(config: PreTrainedConfig, pools: tuple[Pool, ...], kernel: Kernel, memory: int | None) -> None:
    """Raises BudgetError, before anything is written or read, where ``memory`` cannot hold a token's experts."""
    least = sum(top_k_of(config, pool.name) * kernel.slot_bytes(pool.shape) for pool in pools)
    if memory is not None and memory < least:
        raise too_little(memory, least)


def check_loaded(model: nn.Module) -> None:
    """Raises RuntimeError where an expert was left in float."""
    left = [
        f"{name}.{parameter}"
        for name, module in expert_modules(model)
        for parameter, value in module.named_parameters()
        if value.is_floating_point() and value.dim() == 3
    ]
    if left:
        raise RuntimeError(f"these experts were not taken into 4 bits: {', '.join(left)}")


def _local(checkpoint: str | Path, revision: str | None) -> Path:
    """The folder of a checkpoint, fetched from the hub where it is no folder."""
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
    return Path(snapshot_download(str(checkpoint), revision=revision, allow_patterns=patterns))


@contextmanager
def _refused_as_sentences():
    """Turn what a bad checkpoint makes transformers raise into SlabError with a sentence."""
    try:
        yield
    except (KeyError, RuntimeError) as error:
        raise SlabError(f"The checkpoint could not be loaded: {error}") from error
