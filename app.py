"""Start the playground: settings, engine, page. Nothing else happens here."""

import spaces  # noqa: F401, I001  -- has to come before anything that touches CUDA

import logging
import os
import shutil
import signal
import sys

from omni.settings import Settings, read_settings


def main() -> None:
    """Serve the page until the process is ended."""
    settings = read_settings()
    prepare(settings)

    from omni.engines import open_engine  # the settings are checked before the slow imports
    from omni.engines.borrowed import Borrowing
    from omni.errors import OmniError
    from omni.ui.page import build_page
    from omni.ui.waiting import WaitingPage

    try:
        with WaitingPage(settings.host, settings.port) as waiting:
            page = build_page(Borrowing(open_engine(settings, waiting.tell)), settings)
    except OmniError as error:
        sys.exit(str(error))
    try:
        page.launch()
    finally:
        forget(settings)


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
