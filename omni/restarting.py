"""Another engine for a server that runs: the process starts its own program again, in its place and on its port.

A page is built from what its engine can do, and a model does not leave a process without traces; so nothing of either
is kept. Memory, threads and GPU go with the old program, and the waiting page takes over while the new one loads. Where
an engine does not open, the program starts once more with the one before it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from dataclasses import replace

from omni.errors import OmniError
from omni.lineup import Candidate
from omni.settings import Settings

ENGINE, FORMER, REFUSED = "OMNI_SWITCHED_TO", "OMNI_SWITCHED_FROM", "OMNI_SWITCH_REFUSED"  # from program to program
AFTER = 0.5  # seconds for the page to hear of it
OUR_FAULT = "It could not be opened; the log says why."

log = logging.getLogger(__name__)


def as_switched(settings: Settings) -> Settings:
    """What the program runs with: as it was started, or with the engine that was switched to.

    Model, revision and memory are about the engine that the program was started with; another has its defaults.
    """
    engine = os.environ.get(ENGINE, settings.engine)
    return (
        settings if engine == settings.engine else replace(settings, engine=engine, model="", revision="", memory="all")
    )


def fall_back(error: Exception) -> None:
    """Start with the former engine again where ``error`` kept another from opening; returns where there was none."""
    former = os.environ.pop(FORMER, "")
    if former:
        log.error("The engine that was switched to did not open", exc_info=error)
        os.environ[ENGINE] = former
        os.environ[REFUSED] = str(error) if isinstance(error, OmniError) else OUR_FAULT
        _start_again()


def _start_again() -> None:
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class Restart:
    """The engines of this program (see omni.lineup.Lineup). State: the one that was asked for, empty at first."""

    def __init__(self, settings: Settings):
        self.settings, self.wanted = settings, ""
        self.refused = os.environ.pop(REFUSED, "")

    def candidates(self) -> list[Candidate]:
        """See omni.lineup.Lineup."""
        from omni.engines.candidates import candidates

        return candidates(self.settings)

    def switch(self, name: str) -> None:
        """See omni.lineup.Lineup."""
        chosen = next((one for one in self.candidates() if one.name == name), None)
        if chosen is None or chosen.runs or chosen.lacks:
            raise OmniError((chosen and chosen.lacks) or "That engine cannot be chosen here.")
        self.wanted = name
        threading.Timer(AFTER, os.kill, (os.getpid(), signal.SIGTERM)).start()  # the orderly end that app.py has

    def carry_out(self) -> None:
        """Start the program again where another engine was asked for; returns where none was."""
        if self.wanted:
            os.environ[ENGINE], os.environ[FORMER] = self.wanted, self.settings.engine
            _start_again()
