"""From the experts of a safetensors checkpoint to a slab, one expert at a time.

Never holds more than one expert in memory beside its record: tensors are views of the mapped files, stacks of experts
are cut before they are read. Knows the names that checkpoints use, nothing of models.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from omni.experts import nf4, record
from omni.experts.record import ExpertShape, Layout, Matrix
from omni.experts.slab import Key, Pool, Slab, SlabError
from omni.experts.slab_writer import SlabWriter

SAMPLES = 64  # pages of each file that tell one state of the weights from another
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = ("BF16", "F16", "F32")
STACKED = ("gate_up_proj", "down_proj")
PACKED = (*STACKED, "gate_up_proj.absmax", "down_proj.absmax")  # Primer as it is shipped
APART = (
    ("gate_proj.weight", "up_proj.weight", "down_proj.weight"),
    ("w1.weight", "w3.weight", "w2.weight"),  # Mixtral
)
TRANSPARENT = ("model", "language_model")  # parts of a name that some versions of a model have and others have not

Progress = Callable[[int, int], None]  # bytes of the slab done, bytes in all


class Checkpoint:
    """The safetensors files of a model: one, or shards with an index.

    State: the files opened so far. They are mapped, so that what was read of them is not memory of this process.
    """

    def __init__(self, folder: Path):
        """Raises SlabError where there are no readable safetensors."""
        self.folder = Path(folder)
        self._open: dict[str, safe_open] = {}
        if (self.folder / INDEX).is_file():
            try:
                self._files: dict[str, str] = json.loads((self.folder / INDEX).read_text())["weight_map"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise self._broken(INDEX) from error
        elif (self.folder / SINGLE).is_file():
            self._files = dict.fromkeys(self._file(SINGLE).keys(), SINGLE)
        else:
            raise SlabError(f"There is no {SINGLE} in {self.folder}; only safetensors checkpoints are read.")
        self._stems: dict[str, dict[str, set[str]]] = {}
        for name in self._files:
            stem, experts, rest = name.rpartition(".experts.")
            if experts:
                tails = self._stems.setdefault(_plain(stem), {}).setdefault(f"{stem}.experts", set())
                tails.add(re.sub(r"^\d+\.", "", rest))

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._open.clear()  # a file is unmapped with its last view

    @property
    def files(self) -> list[str]:
        return sorted(set(self._files.values()))

    def experts(self, module: str) -> tuple[str, set[str]]:
        """Where the experts of a module stand: the start of their names, and how the names go on behind the number.

        Raises SlabError where the checkpoint has none for it, or several.
        """
        wanted = _plain(module.removesuffix(".experts"))
        found = self._stems.get(wanted) or self._stems.get(f"thinker.{wanted}") or {}
        if module in found or len(found) == 1:
            stem = module if module in found else next(iter(found))
            return stem, found[stem]
        why = f"it could be one of {', '.join(found)}" if found else "none has such a name"
        raise SlabError(f"The experts of {module} are not to be found in {self.folder}: {why}.")

    def tensor(self, name: str):
        """A tensor that is read where it is indexed. Raises SlabError where it is missing."""
        if name not in self._files:
            raise SlabError(f"{self.folder} lacks {name}; fetch the checkpoint again.")
        try:
            return self._file(self._files[name]).get_slice(name)
        except SafetensorError as error:
            raise self._broken(self._files[name]) from error

    def _file(self, name: str) -> safe_open:
        if name not in self._open:
            try:
                self._open[name] = safe_open(self.folder / name, "pt")
            except (OSError, SafetensorError) as error:
                raise self._broken(name) from error
        return self._open[name]

    def _broken(self, name: str) -> SlabError:
        return SlabError(f"{self.folder / name} is missing or cannot be read; fetch the checkpoint again.")


def _plain(name: str) -> str:
    """A module's name without what differs between a checkpoint and a model: see ``find_source``."""
    parts = name.replace("block_sparse_moe", "mlp").split(".")
    return ".".join(part for part in parts if part not in TRANSPARENT)


@dataclass(frozen=True)
class Source:
    """Where the experts of one layer stand: stacks, or names with ``{}`` in place of the expert's number.

    ``gate_up`` is one name, gate above up, or two. Stacks may be ``packed``: what ``omni.primer.shipping`` writes.
    """

    gate_up: tuple[str, ...]
    down: str
    stacked: bool
    packed: bool = False

    def read(self, checkpoint: Checkpoint, expert: int, shape: ExpertShape) -> tuple[Tensor, Tensor]:
        """One expert, (2 * inner, hidden) and (hidden, inner), in the dtype of the checkpoint."""
        if self.packed:
            both = (self.gate_up[0], shape.gate_up), (self.down, shape.down)
            gate_up, down = (_unpacked(checkpoint, name, matrix, expert) for name, matrix in both)
            return gate_up, down
        if self.stacked:
            return checkpoint.tensor(self.gate_up[0])[expert], checkpoint.tensor(self.down)[expert]
        gate, up, down = (checkpoint.tensor(name.format(expert))[:] for name in (*self.gate_up, self.down))
        return torch.cat([gate, up]), down


def _unpacked(checkpoint: Checkpoint, name: str, matrix: Matrix, expert: int) -> Tensor:
    """An expert out of a packed stack. Quantising it again gives the same record: each block holds its maximum."""
    halves, blocks = (slice(expert * size, (expert + 1) * size) for size in (matrix.packed_bytes, matrix.blocks))
    packed, absmax = checkpoint.tensor(name)[halves], checkpoint.tensor(f"{name}.absmax")[blocks]
    return nf4.dequantise(packed, absmax, (matrix.rows, matrix.columns))


def find_source(checkpoint: Checkpoint, module: str, experts: int, shape: ExpertShape) -> Source:
    """Find the tensors of a module's experts, and look at the name, shape and dtype of each of them.

    Forms: ``E.gate_proj.weight``, ``E.up_proj.weight``, ``E.down_proj.weight`` by expert (Qwen2, Qwen3, OLMoE and
    most others), ``E.w1.weight``, ``E.w3.weight``, ``E.w2.weight`` (Mixtral), stacks ``gate_up_proj`` (E, 2I, H) and
    ``down_proj`` (E, H, I) (Qwen3.5, Primer), and the NF4 stacks of a shipped Primer. Names: where the module has
    ``mlp``, the checkpoint may have ``block_sparse_moe``; either may have ``model`` or ``language_model`` between its
    other parts where the other has not; a thinker on its own is found in the checkpoint of its omni model.

    Raises SlabError, with the name of what is in the way, for tensors that are missing or of another size, and for
    experts that are transposed, biased (gpt-oss, the one that interleaves gate and up, is both), without a gate, or
    quantised.
    """
    stem, tails = checkpoint.experts(module)
    source = _source_of(stem, tails)
    if source.stacked:
        for name, matrix in ((source.gate_up[0], shape.gate_up), (source.down, shape.down)):
            if source.packed:
                _check(checkpoint, name, (experts * matrix.packed_bytes,), ("U8",))
                _check(checkpoint, f"{name}.absmax", (experts * matrix.blocks,))
            else:
                _check(checkpoint, name, (experts, matrix.rows, matrix.columns))
        return source
    for expert in range(experts):
        for name in source.gate_up:
            _check(checkpoint, name.format(expert), (shape.inner, shape.hidden))
        _check(checkpoint, source.down.format(expert), (shape.hidden, shape.inner))
    if source.down.format(experts) in checkpoint:
        raise SlabError(f"{stem} has more than the {experts} experts that the model's configuration names.")
    return source


def _source_of(stem: str, tails: set[str]) -> Source:
    """Raises SlabError for experts that are in none of the known forms."""
    if tails in (set(STACKED), set(PACKED)):
        return Source((f"{stem}.{STACKED[0]}",), f"{stem}.{STACKED[1]}", True, tails == set(PACKED))
    for form in APART:
        if tails == set(form):
            gate, up, down = (f"{stem}.{{}}.{tail}" for tail in form)
            return Source((gate, up), down, False)
    if any("bias" in tail for tail in tails):
        raise SlabError(f"The experts of {stem} have biases, which the 4-bit experts cannot hold yet.")
    if tails in ({"up_proj", "down_proj"}, {"up_proj.weight", "down_proj.weight"}):
        raise SlabError(f"The experts of {stem} have no gate, which the 4-bit experts need.")
    for form in (STACKED, *APART):
        if tails < set(form):
            lacking = ", ".join(sorted(set(form) - tails))
            raise SlabError(f"The experts of {stem} lack {lacking}; fetch the checkpoint again.")
    known = {tail for form in (STACKED, *APART) for tail in form}
    raise SlabError(
        f"The experts of {stem} are in a form that is not known, with {', '.join(sorted(tails - known or tails))}: "
        "they may be quantised already; take a checkpoint in bf16, fp16 or fp32."
    )


def _check(checkpoint: Checkpoint, name: str, shape: tuple[int, ...], dtypes: tuple[str, ...] = DTYPES) -> None:
    tensor = checkpoint.tensor(name)
    found = tuple(tensor.get_shape())
    if found == (*shape[:-2], *shape[:-3:-1]) != shape:
        raise SlabError(f"{name} is stored transposed, {found} instead of {shape}, which is not supported.")
    if found != shape:
        raise SlabError(f"{name} is of size {found}, and the model's configuration wants {shape}.")
    if tensor.get_dtype() not in dtypes:
        raise SlabError(f"{name} is stored as {tensor.get_dtype()}; take a checkpoint in bf16, fp16 or fp32.")


def convert(
    checkpoint: Path,
    target: Path,
    pools: Sequence[Pool],
    identity: str | None = None,
    layout: Layout = "rows",
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
) -> None:
    """Write the experts of the checkpoint in the folder ``checkpoint`` to the slab ``target``, in NF4.

    Goes on where a killed conversion stopped, waits for one that another process has begun, and does nothing where the
    slab is there already. ``identity`` is ``identity_of(checkpoint)`` where it is not given; ``device`` quantises.
    Raises SlabError for a checkpoint that cannot be converted, before anything is written where its names, sizes or
    dtypes tell, and for a disk that is full or fails.
    """
    with Checkpoint(checkpoint) as tensors:
        sources = [[find_source(tensors, name, pool.experts, pool.shape) for name in pool.layers] for pool in pools]

        def fill(key: Key, held: Tensor) -> None:
            pool, layer, expert = key
            gate_up, down = sources[pool][layer].read(tensors, expert, pools[pool].shape)
            try:
                record.write(held, pools[pool].shape, gate_up.to(device), down.to(device), layout)
            except ValueError as error:
                where = f"expert {expert} of {pools[pool].layers[layer]}"
                raise SlabError(f"In {checkpoint}, {where}, {error}; fetch the checkpoint again.") from error

        with SlabWriter(target, identity or identity_of(checkpoint), layout, pools) as writer:
            _write_missing(writer, fill, progress)


def repack(slab: Slab, target: Path, layout: Layout, progress: Progress | None = None) -> None:
    """Write the records of ``slab`` to another one in another layout; no weight changes. Raises SlabError."""
    source = torch.empty(0, dtype=torch.uint8)

    def fill(key: Key, held: Tensor) -> None:
        slab.read(*key, source.resize_(len(held)))
        shape = slab.pools[key[0]].shape
        for matrix in (shape.gate_up, shape.down):
            record.put(held, matrix, *record.take(source, matrix, slab.layout), layout)

    with SlabWriter(target, slab.identity, layout, slab.pools) as writer:
        _write_missing(writer, fill, progress)


def _write_missing(writer: SlabWriter, fill: Callable[[Key, Tensor], None], progress: Progress | None) -> None:
    """Write every record that is missing, as ``fill`` fills it, and finish. One buffer serves all records of a size."""
    held = torch.empty(0, dtype=torch.uint8)
    if progress:
        progress(writer.written_bytes, writer.total_bytes)
    for key in writer.missing():
        size = writer.contents.pools[key[0]].shape.record_bytes
        if len(held) != size:
            held = torch.zeros(size, dtype=torch.uint8)  # the padding stays zero
        fill(key, held)
        writer.put(*key, held)
        if progress:
            progress(writer.written_bytes, writer.total_bytes)
    writer.finish()


def identity_of(checkpoint: Path) -> str:
    """A hash of what a checkpoint is: config.json, and the name, size, header and samples of each safetensors file.

    Reads SAMPLES pages of the weights, evenly spread, so that weights trained on are told from those before.
    """
    digest = hashlib.sha256()
    config = Path(checkpoint) / "config.json"
    digest.update(config.read_bytes() if config.is_file() else b"")
    with Checkpoint(checkpoint) as tensors:
        names = tensors.files
    for name in names:
        try:
            with (Path(checkpoint) / name).open("rb") as file:
                size = file.seek(0, 2)
                file.seek(0)
                header = file.read(8)
                header += file.read(min(size, int.from_bytes(header, "little")))
                for sample in range(SAMPLES):
                    file.seek(size * sample // SAMPLES)
                    header += file.read(record.PAGE)
        except OSError as error:
            raise SlabError(f"{Path(checkpoint) / name} is missing; fetch the checkpoint again.") from error
        digest.update(f"\n{name} {size}\n".encode() + header)
    return digest.hexdigest()[:32]


def terminal_progress(what: str = "4-bit experts") -> Progress:
    """A bar in the terminal that follows a conversion."""
    bar = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:  # only now: what an earlier conversion wrote says nothing of the speed of this one
            bar = tqdm(desc=what, total=total, initial=done, unit="B", unit_scale=True)
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show
