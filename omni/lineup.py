"""The protocol of whoever knows which engines a server could run, and may start another one.

The page knows this file and no engine, nor how one is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Candidate:
    """An engine, what it needs beside what is here, and the command line that starts it."""

    name: str  # as --engine takes it
    title: str
    about: str
    needs: tuple[tuple[str, str], ...]  # of what, and how much beside what is here; both in words
    lacks: str  # why it cannot be started here, in one sentence; empty where it can, as far as is known
    command: str
    runs: bool = False  # is the one that the page talks to


class Lineup(Protocol):
    """The engines of a server."""

    refused: str  # why the engine that was last switched to did not open, in one sentence; empty where none failed

    def candidates(self) -> list[Candidate]:
        """All engines, with what is free on this machine now. Takes seconds at its first call."""
        ...

    def switch(self, name: str) -> None:
        """Let the whole server start again with another engine, soon after this returns. Raises OmniError."""
        ...
