"""One arm in a process of its own: ``python -m omni.bench.peers ARM --json '{...}'`` prints one line of JSON.

The JSON given holds the arm's keywords, ``shape`` as an object; the line printed what it measured, with the memory of
the process and the load of the machine. ``--group`` names a control group to join first (see ``memory_limit``).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from contextlib import redirect_stdout

from omni.bench.peers.memory_limit import join
from omni.bench.peers.shape import Shape
from omni.bench.peers.steps import memory

ARMS = {  # name, and the module and function behind it, imported only when it is asked for
    "write_checkpoint": "omni.bench.peers.checkpoint:write",
    "write_gguf": "omni.bench.peers.llamacpp:write",
    "bandwidth": "omni.bench.peers.bandwidth:measure",
    "accelerate": "omni.bench.peers.accelerate_offload:run",
    "bitsandbytes": "omni.bench.peers.bitsandbytes_stock:run",
    "llamacpp": "omni.bench.peers.llamacpp:run",
    "write_slab": "omni.bench.peers.ours:write",
    "ours": "omni.bench.peers.ours:run",
    "convert": "omni.bench.peers.loading:convert",
    "load": "omni.bench.peers.loading:load",
}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m omni.bench.peers", description=__doc__.splitlines()[0])
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("--json", type=json.loads, default={}, metavar="KEYWORDS")
    parser.add_argument("--group", help="control group to join")
    arguments = parser.parse_args(words)
    if arguments.group:
        join(arguments.group)
    keywords = arguments.json
    if "shape" in keywords:
        keywords["shape"] = Shape(**keywords["shape"])
    module, _, function = ARMS[arguments.arm].partition(":")
    with redirect_stdout(sys.stderr):  # what libraries print is not the answer
        answer = getattr(importlib.import_module(module), function)(**keywords)
    print(json.dumps({**memory(), **answer, "load": round(os.getloadavg()[0], 2)}), flush=True)


if __name__ == "__main__":
    main()
