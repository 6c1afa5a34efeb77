"""The live tab: talk hands free, show something to the camera, hear the reply while it is made.

The tab is one element, drawn by ``assets/live.js``; it talks to the server over a line of its own, see ``talks.py``.
"""

from __future__ import annotations

import gradio as gr

from omni.engine import Capabilities
from omni.ui.camera import PICTURES
from omni.ui.element import element
from omni.ui.listening import FRAME, PAUSE, PAUSES, RATE
from omni.ui.talks import ADDRESS


def build_live(capabilities: Capabilities) -> gr.HTML:
    """Lay the tab out where it is called."""
    return element(
        "live",
        "",
        uses=("parts", "voice", "devices", "microphone", "stage"),
        address=ADDRESS,
        rate=RATE,
        frame=FRAME,
        pause=PAUSE,
        pauses=PAUSES,
        side=PICTURES.picture_side,
        hears="audio" in capabilities.inputs,
        sees="image" in capabilities.inputs,
        voices=list(capabilities.voices),
    )
