"""Visitors of the page, as Gradio tells of them."""

from __future__ import annotations

from types import SimpleNamespace


def request(client: str | None = "127.0.0.1", **headers: str) -> SimpleNamespace:
    """A visitor's request, by default from this machine."""
    return SimpleNamespace(client=client and SimpleNamespace(host=client), headers=headers, session_hash="visitor")
