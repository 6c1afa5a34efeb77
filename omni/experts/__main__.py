"""The experts engine on the command line: ``python -m omni.experts plan | convert | verify | show``.

plan MODEL --memory 12GB    what fits, from the configuration alone
convert FOLDER              the experts of a checkpoint into an expert file
verify FILE                 read every expert and compare its checksum
show FILE                   what an expert file holds
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers.utils.logging import set_verbosity_error

from omni.experts.conversion import terminal_progress
from omni.experts.kernels import Kernel, Packed, Unpacked, best_kernel
from omni.experts.loading import open_slab, pools_of
from omni.experts.plan import Plan, find_config, in_words, make_model, parse_memory, plan_for
from omni.experts.slab import Pool, Slab, SlabError

LINKS = {  # bytes a second that reach the experts' memory in practice, from other people's reports
    "cuda": {"PCIe 3 x8": 6e9, "PCIe 4 x16": 24e9},
    "cpu": {"NVMe disk": 5e9},
}
HITS = (0.5, 0.8, 0.95)


def main(words: list[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    arguments = _parse(words)
    logging.basicConfig(level=logging.ERROR)
    set_verbosity_error()
    try:
        arguments.run(arguments)
    except (OSError, ValueError, SlabError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. A conversion goes on from here when it is started again.", file=sys.stderr)
        return 1
    return 0


def plan(arguments: argparse.Namespace) -> None:
    """Print what fits."""
    config, source = find_config(arguments.model)
    memory = parse_memory(arguments.memory)
    made = plan_for(config, memory, arguments.device, arguments.context, arguments.four_bit_dense)
    print(f"{arguments.model}: {in_words(memory)} on {made.device}, {made.context_tokens:,} tokens of context")
    print(f"Computed from {source}; nothing is measured.\n")
    print("\n".join([*_parts(made), "", *_pools(made), "", *_bounds(made)]))


def _parts(plan: Plan) -> Iterator[str]:
    for part in plan.parts:
        yield f"{part.name:<32}{in_words(part.bytes):>10}   {part.about}"
    left = f"{100 * plan.share:.0f}% of {in_words(plan.most_bytes)}"
    yield f"{'all but experts':<32}{in_words(plan.fixed_bytes):>10}"
    yield f"{'left for experts':<32}{in_words(plan.experts_bytes):>10}   {left}; at least {in_words(plan.least_bytes)}"
    yield f"{'while it loads':<32}{in_words(plan.loading_bytes):>10}   before any expert is there"


def _pools(plan: Plan) -> Iterator[str]:
    yield f"{'experts':<16}{'in memory':>18}{'':>8}{'each':>12}{'a token reads':>16}"
    for held in plan.pools:
        pool = held.pool
        count = f"{held.resident:,} of {pool.records:,}"
        share = f"{100 * held.resident / pool.records:.0f}%"
        yield (
            f"{pool.name:<16}{count:>18}{share:>8}{in_words(pool.shape.record_bytes):>12}{in_words(held.token_bytes):>16}"
            f"   {held.top_k} in each of {len(pool.layers)} layers"
        )
    size = in_words(sum(held.pool.records * held.pool.shape.record_bytes for held in plan.pools))
    beside = "; beside a card, as much RAM saves reading it again" if plan.device == "cuda" else ""
    yield f"The file of all experts takes {size} of disk{beside}."


def _bounds(plan: Plan) -> Iterator[str]:
    missing = [held for held in plan.pools if held.resident < held.pool.records]
    if not missing:
        yield "All experts are in memory: none has to be brought."
        return
    yield "Tokens a second at most, by what bringing the missing experts takes alone:"
    heads = "".join(f"{f'{100 * hits:.0f}% hits':>12}" for hits in HITS)
    yield f"{'':<16}{'':<24}{'even use':>12}{heads}"
    for held in missing:
        even = held.resident / held.pool.records
        for link, bandwidth in LINKS[plan.device].items():
            rates = "".join(f"{held.fastest(hits, bandwidth):>12.1f}" for hits in (even, *HITS))
            yield f"{held.pool.name:<16}{f'{link}, {bandwidth / 1e9:g} GB/s':<24}{rates}"
    yield "Even use: every expert as often as every other, so that as many hit as are in memory."


def convert(arguments: argparse.Namespace) -> None:
    """Make the expert file of a checkpoint, or find it."""
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    pools = pools_of(make_model(find_config(str(folder))[0]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kernel = _kernel(arguments.layout, pools, device)
    with open_slab(folder, Path(arguments.out or folder), pools, kernel, terminal_progress(), device) as slab:
        print("\n".join(_contents(slab)))


def _kernel(layout: str | None, pools: tuple[Pool, ...], device: torch.device) -> Kernel:
    """A kernel that wants the layout asked for, or the best one here. Raises ValueError where it cannot be had."""
    shapes = [pool.shape for pool in pools]
    if layout is None:
        return best_kernel(shapes, device, torch.bfloat16)
    if layout == "tiles" and not all(shape.tileable for shape in shapes):
        raise ValueError("These experts cannot be cut into tiles of 32 rows; take --layout rows.")
    return Packed() if layout == "tiles" else Unpacked(torch.bfloat16)


def verify(arguments: argparse.Namespace) -> None:
    """Read every expert of a file."""
    with Slab.open(arguments.file) as slab:
        slab.verify()
        count = sum(pool.records for pool in slab.pools)
        print(f"All {count:,} experts in {slab.path} are as they were written.")


def show(arguments: argparse.Namespace) -> None:
    """Print what a file holds."""
    with Slab.open(arguments.file) as slab:
        print("\n".join(_contents(slab)))


def _contents(slab: Slab) -> Iterator[str]:
    yield f"{slab.path}: {in_words(slab.contents.size)}, layout {slab.layout}"
    yield f"of checkpoint {slab.identity}, checksum of the experts {slab.checksum}"
    for pool in slab.pools:
        shape = pool.shape
        yield (
            f"{pool.name}: {len(pool.layers)} layers of {pool.experts} experts, {shape.hidden} x {shape.inner}, "
            f"{in_words(shape.record_bytes)} each"
        )


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m omni.experts", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="plan | convert | verify | show")
    one = commands.add_parser("plan", help="what fits into a memory, from the configuration alone")
    one.add_argument("model", help="a folder, a repository in the hub's cache, or one whose configuration is shipped")
    one.add_argument("--memory", required=True, help="what the model may take: 12GB, 900MB, 0.5GiB or bytes")
    one.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where that memory is")
    one.add_argument("--context", type=int, help="tokens of text, pictures and sound together (8192)")
    one.add_argument("--four-bit-dense", action="store_true", help="attention and head in 4 bits too")
    one.set_defaults(run=plan)
    one = commands.add_parser("convert", help="the experts of a checkpoint into an expert file")
    one.add_argument("folder", help="folder with config.json and safetensors")
    one.add_argument("--out", help="folder for the expert file; without it, the checkpoint's own")
    one.add_argument("--layout", choices=("rows", "tiles"), help="how matrices lie; without it, what is fastest here")
    one.set_defaults(run=convert)
    one = commands.add_parser("verify", help="read every expert of a file and compare its checksum")
    one.add_argument("file")
    one.set_defaults(run=verify)
    one = commands.add_parser("show", help="what an expert file holds")
    one.add_argument("file")
    one.set_defaults(run=show)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
