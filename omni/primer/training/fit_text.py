"""Fit the word pieces: ``python -m omni.primer.training.fit_text --out FOLDER``. Takes seconds."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from omni.primer.tokenizers.text import TextTokenizer
from omni.primer.training.batches import text_corpus
from omni.primer.training.outside import manual

LINES = 40_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for text.json")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    TextTokenizer.train(itertools.chain(text_corpus(LINES), manual())).save(arguments.out / "text.json")


if __name__ == "__main__":
    main()
