"""The chat tab: thread, status line and composer, and what leads to what."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from omni.engine import Engine
from omni.provenance.keys import Keys
from omni.ui import status, visit
from omni.ui.actions import Actions
from omni.ui.composer import Composer, build_composer, outputs_of
from omni.ui.element import element
from omni.ui.inside import InsideTab
from omni.ui.player import SILENT
from omni.ui.suggestions import suggestion_values, suggestions_for
from omni.ui.thread import thread_value

MODEL = "model"  # the events that need the model; one runs, the others queue
LIGHT = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
HEAVY = {"api_visibility": "private", "concurrency_limit": 1, "concurrency_id": MODEL, "trigger_mode": "multiple"}


def build_chat(engine: Engine, root: Path, keys: Keys, fresh: gr.Button, inside: InsideTab) -> Actions:
    """Lay the tab out where it is called; ``fresh`` is the button that begins a new conversation.

    A reply writes into ``inside`` what it tells of its inside.
    """
    actions = Actions(engine, root, keys, suggestions_for(engine.capabilities))
    here = gr.State(None, delete_callback=visit.leave)
    laid, asked = gr.State(()), gr.State(None)
    with gr.Column(elem_id="omni-chat"):
        with gr.Column(elem_classes="omni-scroller"):
            thread = element(
                "thread",
                thread_value(None),
                uses=("parts",),
                suggestions=suggestion_values(actions.suggestions),
                about=engine.capabilities.about,
                outputs=outputs_of(engine.capabilities),
            )
            draft = element("draft", {"turn": None, "message": None})
        with gr.Row(elem_id="omni-line"):
            line = element("status", status.quiet())
            player = element("player", SILENT, uses=("voice",))
        composer = build_composer(engine.capabilities)
    looks = [composer.kept.saved, inside.tokens, inside.turn]
    screen = [here, laid, thread, player, composer.tray, composer.words, line, asked, *looks, draft, composer.kept.past]
    _wire(actions, composer, screen, fresh)
    return actions


def _wire(actions: Actions, composer: Composer, screen: list[gr.components.Component], fresh: gr.Button) -> None:
    here, laid, thread, _, tray, words, line, asked, *_ = screen
    message = [here, laid, words]
    light = {**LIGHT, "show_progress_on": line}  # else Gradio copies every output, the thread too, at each sign of life
    reply = asked.change(
        actions.answer,
        [here, composer.tells, *composer.wishes],
        screen,
        show_progress="minimal",
        show_progress_on=line,
        **HEAVY,
    )
    reply.failure(actions.recover, message, screen, **light)

    gr.on([composer.send.click, words.submit], actions.send, message, screen, **light)
    composer.stop.click(actions.stop, [here], screen, **light)
    fresh.click(actions.clear, [here], screen, **light)
    thread.suggest(actions.suggest, [here], screen, **light)
    thread.again(actions.again, [here], screen, **light)
    thread.instead(actions.instead, [here], screen, **light)
    thread.version(actions.turn_to, [here], screen, **light)
    thread.rate(actions.rate, [here], screen, **light)
    thread.takeback(actions.take_back, message, screen, **light)
    composer.inbox.upload(actions.attach, [here, laid, composer.inbox], screen, **light)
    composer.kept.save.click(actions.save, [here], screen, **light)
    composer.kept.open.upload(actions.open, [here, composer.kept.open], screen, **light)
    composer.kept.reopen.upload(actions.reopen, [here, composer.kept.reopen], screen, **light)
    tray.detach(actions.detach, [laid], screen, **light)
