"""Serve the real page for the tests: ``python tests/serve.py ENGINE PORT ROOT``.

ENGINE may also be ``fake``, the scripted one, or ``tiny-omni``, Qwen3-Omni with a tiny checkpoint of random weights.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from app import prepare
from omni.engine import Engine
from omni.settings import Settings


def main(engine: str, port: str, root: str) -> None:
    """Serve until the process is ended."""
    settings = Settings(engine=engine, port=int(port), root=Path(root))
    prepare(settings)

    from omni.exams.quick import QuickExam
    from omni.restarting import Restart
    from omni.ui.page import build_page

    build_page(opened(settings), settings, QuickExam(settings, count=1), Restart(settings)).launch()


def opened(settings: Settings) -> Engine:
    """The scripted engine or a real one."""
    if settings.engine == "fake":
        from fake_engine import FakeEngine

        return FakeEngine()
    from omni.engines import open_engine

    if settings.engine == "tiny-omni":
        from omni_tiny import save_tiny

        settings = replace(settings, engine="qwen3-omni", model=str(save_tiny(settings.root / "checkpoint")))

    return open_engine(settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
