"""Start the playground: settings, engine, page. Nothing else happens here."""

from __future__ import annotations  # noqa: I001  -- the next has to come before anything that touches CUDA

import spaces  # noqa: F401

import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from omni.restarting import Restart, as_switched, fall_back
from omni.settings import Settings, read_settings

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from omni.engine import Engine
    from omni.events import Progress


def main() -> None:
    """Serve the page until the process is ended."""
    settings = as_switched(read_settings())
    prepare(settings)

    from omni.errors import OmniError  # the settings are checked before the slow imports
    from omni.exams.quick import QuickExam
    from omni.ui.page import build_page
    from omni.ui.waiting import WaitingPage

    restart = Restart(settings)
    try:
        with WaitingPage(settings.host, settings.port) as waiting:
            engine, routes = open_house(settings, waiting.tell)
            page = build_page(engine, settings, QuickExam(settings), restart)
    except Exception as error:
        fall_back(error)
        if isinstance(error, OmniError):
            sys.exit(str(error))
        raise
    try:
        page.launch(routes)
    finally:
        forget(settings)
        restart.carry_out()


def open_house(settings: Settings, report: Callable[[Progress], None]) -> tuple[Engine, list[BaseRoute]]:
    """The engine that the page talks to, and the routes beside the page. Raises OmniError."""
    from omni.engines import open_engine
    from omni.engines.borrowed import Borrowing
    from omni.errors import OmniError
    from omni.provenance.keys import FOLDER, open_keys
    from omni.serving.routes import routes
    from omni.serving.turns import InTurn

    if settings.mcp and find_spec("mcp") is None:
        raise OmniError("--mcp needs the package mcp; please install it with: pip install 'mcp>=1.21,<2'")
    engine = open_engine(settings, report)
    if settings.engine != "remote":  # whose model has a GPU of its own
        engine = Borrowing(engine)
    if not settings.api:
        return engine, []
    engine = InTurn(engine, settings.queue_size)
    keys = open_keys(settings.root / FOLDER, settings.timestamps)
    return engine, routes(engine, keys, settings.api_key, settings.max_upload_mb, settings.queue_size + 8)


def prepare(settings: Settings) -> None:
    """Logging, the folder for uploads, and an orderly end on SIGTERM."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ["GRADIO_TEMP_DIR"] = str((settings.root / "uploads").resolve())
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    forget(settings)


def forget(settings: Settings) -> None:
    """Delete what visitors left, now and after a crash."""
    for folder in ("conversations", "uploads"):
        shutil.rmtree(settings.root / folder, ignore_errors=True)


if __name__ == "__main__":
    main()
