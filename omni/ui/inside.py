"""The tab that shows the inside of the last reply: experts and tokens, memory, stages, costs, and the model's card.

What a reply says of itself rides on the reply's own stream; memory is looked up when somebody looks. The experts'
memory belongs to all visitors of a server, so that by default only browsers of the server's own machine change it.
"""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr
import numpy as np

from omni.engine import Engine, Inside, Memory, inside_of
from omni.errors import OmniError
from omni.settings import Settings
from omni.ui.element import element
from omni.ui.look import NO_TURN, NOTHING
from omni.ui.permission import is_allowed

HOW = "Whoever runs this server may allow it with --memory-slider everyone."


@dataclass(frozen=True)
class InsideTab:
    """The parts of the tab that change."""

    tokens: gr.HTML  # written by a reply
    turn: gr.HTML
    memory: gr.HTML


def make_inside(engine: Engine) -> InsideTab:
    """The parts, to be laid out later: what writes them is wired before."""
    inside = inside_of(engine)
    return InsideTab(
        element("tokens", NOTHING, render=False, shows=inside is not None, engine=engine.name),
        element("turn", NO_TURN, render=False),
        element("memory", memory_value(inside), render=False),
    )


def build_inside(engine: Engine, settings: Settings, parts: InsideTab, tab: gr.Tab, light: dict[str, Any]) -> None:
    """Lay the tab out where it is called; ``light`` are the options of events that need no model."""
    inside = inside_of(engine)
    with gr.Column(elem_classes="omni-scroller"), gr.Column(elem_classes="omni-sheet", elem_id="omni-inside"):
        parts.tokens.render()
        parts.turn.render()
        parts.memory.render()
        element("cost", None)
        element("card", card_value(inside, engine))

    def look(request: gr.Request) -> dict[str, Any]:
        return memory_value(inside, is_allowed(settings.memory_slider, settings, request))

    def change(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        return changed(inside, settings, request, int(event.bytes))

    tab.select(look, None, parts.memory, **light)
    parts.memory.look(look, None, parts.memory, **light)
    parts.memory.allot(change, None, parts.memory, **light)


def changed(inside: Inside | None, settings: Settings, request: gr.Request, budget: int) -> dict[str, Any]:
    """Let the experts take ``budget`` bytes, where this visitor may say so; a refusal is told in the value."""
    may = is_allowed(settings.memory_slider, settings, request)
    if inside is None or not may:
        return memory_value(inside, may)
    try:
        return memory_value(inside, may, inside.set_experts_memory(budget))
    except OmniError as error:
        return {**memory_value(inside, may), "failed": str(error)}


def memory_value(inside: Inside | None, may: bool = False, memory: Memory | None = None) -> dict[str, Any]:
    """Where the model is by now, as ``assets/memory.js`` draws it; what is resident as bits, layer by layer."""
    if inside is None:
        return {"known": False, "may": False, "how": HOW, "failed": ""}
    memory = memory or inside.memory()
    told = {name: value for name, value in asdict(memory).items() if name != "pools"}
    pools = {
        pool.name: {
            "layers": pool.resident.shape[0],
            "experts": pool.resident.shape[1],
            "bytes": pool.expert_bytes,
            "resident": base64.b64encode(np.packbits(pool.resident).tobytes()).decode(),
            "count": int(pool.resident.sum()),
        }
        for pool in memory.pools
    }
    return {"known": True, "may": may, "how": HOW, "failed": "", "pools": pools, **told}


def card_value(inside: Inside | None, engine: Engine) -> dict[str, Any]:
    """The model card; of an engine that runs elsewhere, what it says of itself."""
    if inside is None:
        return {"name": engine.name, "about": engine.capabilities.about, "facts": [], "components": []}
    return {"about": engine.capabilities.about, **asdict(inside.card())}
