"""Who may change what all visitors of a server share, as the host's settings say: "auto", "everyone" or "nobody".

"auto" is browsers of the server's own machine, and nobody where the page is shared or listens on other addresses.
"""

from __future__ import annotations

import ipaddress

import gradio as gr

from omni.settings import Settings

FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")  # somebody else's browser, through a proxy on this machine


def is_allowed(who: str, settings: Settings, request: gr.Request | None) -> bool:
    """Whether this visitor may, where the setting in question is ``who``."""
    if who != "auto" or request is None:
        return who == "everyone"
    if settings.share or any(name in request.headers for name in FORWARDED):
        return False
    return is_loopback(settings.host) and request.client is not None and is_loopback(request.client.host)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which nobody else reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
