"""The page as a whole: a header, and the chat below it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from omni.engine import Engine
from omni.settings import Settings
from omni.ui.api import build_api
from omni.ui.chat import build_chat
from omni.ui.element import ASSETS
from omni.ui.suggestions import EXAMPLES
from omni.ui.theme import THEME
from omni.ui.tools import build_tools

UPLOADS_LAST = (3600, 3600)  # seconds: how often uploads are looked through, how old they may become


def build_page(engine: Engine, settings: Settings) -> gr.Blocks:
    """The page for one engine, ready to be launched with ``launch_options``."""
    root = (settings.root / "conversations").resolve()
    root.mkdir(parents=True, exist_ok=True)
    gr.set_static_paths([root, EXAMPLES])  # served as they are, without a copy; folder names cannot be guessed
    with gr.Blocks(
        title="Omni Playground", fill_width=True, analytics_enabled=False, delete_cache=UPLOADS_LAST
    ) as page:
        with gr.Row(elem_id="omni-header"):
            gr.HTML(f"<b>Omni Playground</b><span>{engine.name}</span>", elem_id="omni-title", apply_default_css=False)
            fresh = gr.Button("New chat", size="sm", elem_id="omni-fresh", min_width=0)
        actions = build_chat(engine, root, fresh)
        build_api(actions, listed=not settings.mcp)  # what is listed is a tool, and a tool cannot stream
        if settings.mcp:
            build_tools(actions)
    return page.queue(max_size=settings.queue_size, default_concurrency_limit=1)


def launch_options(settings: Settings) -> dict[str, Any]:
    """What ``launch`` has to be told for the page to look and behave as meant."""
    return {
        "server_name": settings.host,
        "server_port": settings.port,
        "share": settings.share,
        "max_file_size": f"{settings.max_upload_mb}mb",
        "theme": THEME,
        "head": f"<style>{(ASSETS / 'page.css').read_text()}</style>",  # ``css`` would be fenced into the root
        "footer_links": ["api"],  # hidden, but the sidebar opens it
        "show_error": False,
        "run_history": False,
        "enable_monitoring": False,
        "strict_cors": True,
        "mcp_server": settings.mcp,
        "ssr_mode": False,
    }
