"""The tab that checks a file: who signed it, is it whole, did a model make it, does our mark stand in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from omni.provenance.check import check as check_file
from omni.provenance.keys import Keys
from omni.ui.actions import sentence_of
from omni.ui.api import uploaded
from omni.ui.element import element

AT_ONCE = 2  # checks; each decodes a file and tries many sizes
NOTHING: dict[str, Any] = {"name": "", "report": None, "failed": ""}


def build_check(keys: Keys) -> None:
    """Lay the tab out where it is called, and add the endpoint ``/check``."""

    def look(upload: str | None) -> tuple[None, dict[str, Any]]:
        """What the tab shows of an uploaded file, which is deleted."""
        if upload is None:
            return None, NOTHING
        path = Path(upload)
        try:
            return None, {"name": path.name, "report": check_file(path, keys).facts(), "failed": ""}
        except Exception as error:
            return None, {"name": path.name, "report": None, "failed": sentence_of(error)}
        finally:
            path.unlink(missing_ok=True)

    def check(file: dict) -> dict:
        """Say what can be said of a file.

        Returns {"verdict", "headline", "lines", "credentials", "mark"}: the verdict is one of "ours", "ours-changed",
        "stripped", "other-playground", "foreign", "changed", "unreadable" and "unknown"; lines are pairs of a topic and
        a sentence; "mark" is null, or {"sure", "p", "week"} of the likeliest watermark.

        Parameters:
            file: any file, uploaded beforehand (``handle_file`` of gradio_client does it).
        """
        try:
            return check_file(uploaded(file), keys).facts()
        except Exception as error:
            raise gr.Error(sentence_of(error), print_exception=False) from error

    with gr.Column(elem_classes="omni-scroller"), gr.Column(elem_classes="omni-sheet"):
        inbox = gr.UploadButton("Check", elem_id="omni-checked")
        shown = element("check", NOTHING)
    inbox.upload(
        look, [inbox], [inbox, shown], show_progress="hidden", api_visibility="private", concurrency_limit=AT_ONCE
    )
    gr.api(check, api_name="check", concurrency_limit=AT_ONCE)
