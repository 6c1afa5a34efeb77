"""The header's title with the engine's name, which opens what there is to choose from: what each needs, why not, how.

Another engine is for all visitors: a page is built from what its engine can do, so the whole server starts again.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gradio as gr

from omni.engine import Engine
from omni.errors import OmniError
from omni.lineup import Lineup
from omni.settings import Settings
from omni.ui.actions import sentence_of
from omni.ui.element import element
from omni.ui.permission import is_allowed

HOW = "Whoever runs this server may let you start another engine, with --engine-picker everyone."
CLOSED: dict[str, Any] = {"candidates": [], "may": False, "failed": "", "leaving": False}


def build_title(engine: Engine, settings: Settings, lineup: Lineup | None, light: dict[str, Any]) -> None:
    """Lay the title out where it is called; without a line-up the engine's name opens nothing."""
    refused = lineup.refused if lineup else ""
    title = element("title", CLOSED, engine=engine.name, opens=lineup is not None, how=HOW, refused=refused)
    if lineup is None:
        return

    def look(request: gr.Request) -> dict[str, Any]:
        return lineup_value(lineup, is_allowed(settings.engine_picker, settings, request))

    def switch(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        return switched(lineup, settings, request, str(event.name))

    title.look(look, None, title, **light)
    title.switch(switch, None, title, **light)


def switched(lineup: Lineup, settings: Settings, request: gr.Request, name: str) -> dict[str, Any]:
    """Start another engine, where this visitor may say so; a refusal is told in the value."""
    if not is_allowed(settings.engine_picker, settings, request):
        return lineup_value(lineup, False)
    try:
        lineup.switch(name)
    except OmniError as error:
        return lineup_value(lineup, True) | {"failed": str(error)}
    return lineup_value(lineup, True) | {"leaving": True}


def lineup_value(lineup: Lineup, may: bool) -> dict[str, Any]:
    """The engines as ``assets/title.js`` shows them."""
    try:
        return CLOSED | {"candidates": [asdict(one) for one in lineup.candidates()], "may": may}
    except Exception as error:
        return CLOSED | {"failed": sentence_of(error)}
