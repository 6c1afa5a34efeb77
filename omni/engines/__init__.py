"""The engines behind the page, each opened by name."""

from __future__ import annotations

from collections.abc import Callable

from omni.engine import Engine
from omni.engines.teams import disband
from omni.events import Progress
from omni.settings import Settings


def open_engine(settings: Settings, report: Callable[[Progress], None] = lambda _: None) -> Engine:
    """The engine that ``settings`` name, loaded and ready; ``report`` is told how far it is.

    Raises OmniError where it cannot be opened.
    """
    report(Progress("Loading the model"))
    try:
        return _opened(settings, report)
    finally:
        disband()  # replies are made in threads of their own


def _opened(settings: Settings, report: Callable[[Progress], None]) -> Engine:
    if settings.engine == "primer":
        from omni.engines.primer import PrimerEngine

        return PrimerEngine.open(settings.device, memory=settings.memory, slabs=settings.root / "experts")
    if settings.engine == "qwen3-omni":
        from omni.engines.qwen3_omni import REPOSITORY, Qwen3OmniEngine

        return Qwen3OmniEngine.open(
            settings.model or REPOSITORY,
            settings.revision,
            settings.device,
            settings.memory,
            settings.root / "experts",
            settings.system,
            report=report,
        )
    if settings.engine == "remote":
        from omni.engines.remote.engine import RemoteEngine

        return RemoteEngine.open(settings.server, settings.base_url, settings.remote_key, settings.model)
    raise ValueError(f"no engine is called {settings.engine!r}")
