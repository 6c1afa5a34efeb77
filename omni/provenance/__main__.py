"""``python -m omni.provenance FILE``: say what can be said of a file. Ends with 0 where this playground made it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from omni.errors import OmniError
from omni.provenance.check import check
from omni.provenance.keys import FOLDER, NEITHER, SIGNING, WATERMARK, Keys, open_keys
from omni.settings import read_settings


def main(words: list[str] | None = None) -> int:
    """0 where the file is ours and whole or marked, 1 where it is not, 2 where it cannot be checked."""
    parser = argparse.ArgumentParser(prog="python -m omni.provenance", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--root", type=Path, default=read_settings([]).root, help="data folder of the playground")
    parser.add_argument("--json", action="store_true", help="print all that was found as JSON")
    given = parser.parse_args(words)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    folder = given.root / FOLDER
    keys = Keys(None, None, trouble=NEITHER)
    if (folder / SIGNING).exists() or (folder / WATERMARK).exists() or {"OMNI_SIGNING_PEM"} & set(os.environ):
        keys = open_keys(folder)
    else:
        print(
            f"There are no keys in {folder}: nothing can be known as ours. Name the data folder with --root.",
            file=sys.stderr,
        )
    try:
        report = check(given.file, keys)
    except OmniError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report.facts(), indent=1) if given.json else report.words)
    return 0 if report.verdict in ("ours", "stripped") else 1


if __name__ == "__main__":
    sys.exit(main())
