"""Whose exam a folder holds. Imports no judge and no model library: reports can be listed without."""

from __future__ import annotations

from dataclasses import dataclass

FILE = "sitting.json"


@dataclass(frozen=True)
class About:
    """Whose exam this is."""

    engine: str  # as in the settings
    weights: str  # a fingerprint, or the name of a checkpoint
    seed: int
    count: int

    @property
    def label(self) -> str:
        """A name for the folder of this sitting."""
        plain = "".join(letter if letter.isalnum() else "-" for letter in self.weights)
        return f"{self.engine}-{plain}-seed{self.seed}-n{self.count}"
