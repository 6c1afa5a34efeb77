"""The page as a whole: a header with the tabs, and the chosen tab below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.tunneling import CURRENT_TUNNELS
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from omni.engine import Engine
from omni.errors import OmniError
from omni.examiner import Examiner
from omni.lineup import Lineup
from omni.provenance.keys import FOLDER, open_keys
from omni.settings import Settings
from omni.ui import words
from omni.ui.api import build_api
from omni.ui.chat import LIGHT, build_chat
from omni.ui.check import build_check
from omni.ui.element import ASSETS
from omni.ui.engines import build_title
from omni.ui.exam import build_exam
from omni.ui.head import ICON, NAME, Head, card_route
from omni.ui.inside import build_inside, make_inside
from omni.ui.live import build_live
from omni.ui.suggestions import EXAMPLES
from omni.ui.talks import Talks
from omni.ui.theme import THEME
from omni.ui.tools import build_tools

QUEUE_PAUSE = 0.01  # seconds between two looks at an empty queue; Gradio's own thousand a second double what rest costs
UPLOADS_LAST = (3600, 3600)  # seconds: how often uploads are looked through, how old they may become


@dataclass(frozen=True)
class Page:
    """The page for one engine, and what is served beside it: the line of its live tab, the reports of its exams."""

    blocks: gr.Blocks
    routes: list[BaseRoute]
    settings: Settings

    def launch(self, routes: Sequence[BaseRoute] = ()) -> None:
        """Serve until the process is ended, with more ``routes`` beside the page."""
        try:
            head = Middleware(Head, script=(ASSETS / "first.js").read_text())
            served = {"routes": [*self.routes, *routes], "middleware": [head]}
            self.blocks.launch(**launch_options(self.settings), app_kwargs=served)
        finally:
            for tunnel in CURRENT_TUNNELS:  # processes, which would outlive a program that starts again in its place
                tunnel.kill()


def build_page(
    engine: Engine, settings: Settings, examiner: Examiner | None = None, lineup: Lineup | None = None
) -> Page:
    """Lay out every tab on one engine; that of the exam where there is an examiner.

    With a line-up the other engines are told of, and may be started in its place.
    """
    root = (settings.root / "conversations").resolve()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OmniError(f"The data folder {settings.root} cannot be written; name another one with --root.") from error
    keys = open_keys(settings.root / FOLDER, settings.timestamps)
    routes: list[BaseRoute] = []
    gr.set_static_paths([root, EXAMPLES])  # served as they are, without a copy; folder names cannot be guessed
    with gr.Blocks(title=NAME, fill_width=True, analytics_enabled=False, delete_cache=UPLOADS_LAST) as blocks:
        with gr.Row(elem_id="omni-header"):
            build_title(engine, settings, lineup, LIGHT)
            fresh = gr.Button("New chat", size="sm", elem_id="omni-fresh", min_width=0)
        inside = make_inside(engine)
        with gr.Tabs(elem_id="omni-tabs", overflow_behavior="wrap"):
            with tab("Chat"):
                actions = build_chat(engine, root, keys, fresh, inside)
            with tab("Live"):
                build_live(engine.capabilities)
            with tab("Inside") as chosen:
                build_inside(engine, settings, inside, chosen, LIGHT)
            with tab("Check a file"):
                build_check(keys)
            if examiner is not None:
                with tab("Exam") as chosen:
                    routes.append(build_exam(examiner, engine, actions.model, settings, chosen, LIGHT))
        build_api(actions, listed=not settings.mcp)  # what is listed is a tool, and a tool cannot stream
        if settings.mcp:
            build_tools(actions)
    talks = Talks(engine, actions.model, root, keys, settings.live_minutes)
    queued = blocks.queue(max_size=settings.queue_size, default_concurrency_limit=1)
    queued._queue.sleep_when_free = QUEUE_PAUSE
    return Page(queued, [card_route(), talks.route, *routes], settings)


def tab(label: str) -> gr.Tab:
    """A tab whose children share the window below the header; those that are longer stand in an ``omni-scroller``."""
    name = label.split()[0].lower()
    return gr.Tab(label, id=name, elem_id=f"omni-tab-{name}", elem_classes="omni-tab")


def launch_options(settings: Settings) -> dict[str, Any]:
    """What ``launch`` has to be told for the page to look and behave as meant."""
    return {
        "server_name": settings.host,
        "server_port": settings.port,
        "share": settings.share,
        "max_file_size": f"{settings.max_upload_mb}mb",
        "theme": THEME,
        "favicon_path": ICON,
        "head": f"<style>{styles()}</style>{words.script()}",  # ``css`` would be fenced into the root
        "footer_links": ["api"],  # hidden, but the sidebar opens it
        "show_error": False,
        "run_history": False,
        "enable_monitoring": False,
        "strict_cors": True,
        "mcp_server": settings.mcp,
        "ssr_mode": False,
    }


def styles() -> str:
    """The style sheets of the page, its own first."""
    return "".join((ASSETS / f"{name}.css").read_text() for name in ("page", "title", "live", "inside", "exam"))
