"""Words as byte-level BPE, so that nothing is unknown: the tokenizers library, wrapped to one convention.

Every word is encoded with the space before it, whether it stands first or not: a text is the sum of its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from omni.primer.vocabulary import TEXT_CODES


class TextTokenizer:
    """Text to ids below ``TEXT_CODES`` and back."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, texts: Iterable[str]) -> TextTokenizer:
        """Learn the merges from ``texts``."""
        tokenizer = Tokenizer(models.BPE(byte_fallback=False))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=TEXT_CODES, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> TextTokenizer:
        return cls(Tokenizer.from_file(str(path)))

    def save(self, path: Path) -> None:
        self._tokenizer.save(str(path))

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids if text else []

    def decode(self, ids: list[int]) -> str:
        """The text of ``ids``, with the space before its first word where it has one."""
        return self._tokenizer.decode(ids)


def normalise(text: str) -> str:
    """What a user wrote, as the model reads it: lower case, words and figures only, single spaces."""
    text = text.lower().replace("’", "'")
    text = re.sub(r"[^\w+\-*/=' ]+", " ", text)
    return " ".join(text.split())
