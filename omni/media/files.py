"""Names of the files that this package makes."""

from __future__ import annotations

import secrets
from pathlib import Path


def fresh(folder: Path, suffix: str) -> Path:
    """A name in ``folder`` that nobody can guess; makes the folder where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{secrets.token_hex(16)}{suffix}"
