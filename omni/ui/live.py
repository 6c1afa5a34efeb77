"""The live tab: talk hands free, show something to the camera, hear the reply while it is made."""

from __future__ import annotations

import gradio as gr


def build_live() -> None:
    """Lay the tab out where it is called."""
    with gr.Column(elem_classes="omni-scroller"), gr.Column(elem_classes="omni-sheet"):
        gr.Markdown("## Talk live\nHands free: speak, show something, interrupt.")
