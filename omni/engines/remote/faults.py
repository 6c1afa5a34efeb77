"""What can go wrong between here and a server, each with a sentence for the visitor.

A visitor cannot mend a server: the sentences say who can. What a server says of itself is shown in part, never with
the key in it.
"""

from __future__ import annotations

import json
import re
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time

from omni.errors import OmniError

MOST_SHOWN = 240  # characters of what a server says
SOON = 1.0  # seconds before another try where a server names none
SPACES = re.compile(r"\s+")


class RemoteFault(OmniError):
    """Anything that went wrong with the server; ``again_in`` are the seconds after which it may be tried again."""

    again_in: float | None = None


class Unreachable(RemoteFault):
    """No connection can be made."""


class TooSlow(RemoteFault):
    """Nothing came for too long."""


class KeyRefused(RemoteFault):
    """401 or 403."""


class Unknown(RemoteFault):
    """404: the address or the model."""


class Rejected(RemoteFault):
    """400, 413 or 422: the server does not take this request. ``said`` are its own words, cleaned."""

    def __init__(self, sentence: str, said: str = ""):
        super().__init__(sentence)
        self.said = said


class Busy(RemoteFault):
    """429."""


class ServerFailed(RemoteFault):
    """5xx, or an error inside the stream."""


class BrokenOff(RemoteFault):
    """The connection ended in the middle of a reply."""


class Garbled(RemoteFault):
    """What came is no reply in the protocol, or larger than any reply."""


def of_status(status: int, body: bytes, retry_after: str | None, key: str) -> RemoteFault:
    """The fault that a status tells, with the server's own words where they say more."""
    said, wait = words_of(body, key), seconds(retry_after)
    if status in (401, 403):
        return KeyRefused("The model's server does not accept the key of this page; its host has to set another one.")
    if status == 404:
        return Unknown(f"The model's server does not have what was asked for{_quoted(said)}.")
    if status == 429:
        fault = Busy(f"The model's server is busy; please try again {_when(wait)}.")
        fault.again_in = SOON if wait is None else wait
        return fault
    if status == 413:
        return Rejected("These files are too large for the model's server; please send fewer or smaller ones.", said)
    if 400 <= status < 500:
        return Rejected(f"The model's server does not take this{_quoted(said)}.", said)
    fault = ServerFailed(f"The model's server failed ({status}{_quoted(said)}); please try again later.")
    if status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
        fault.again_in = SOON if wait is None else wait
    return fault


def words_of(body: bytes, key: str) -> str:
    """What an error body says, in one short line without the key."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return said(value, key)


def said(value: object, key: str) -> str:
    """The message in an error object: OpenAI's, FastAPI's ``detail``, or a bare string."""
    for name in ("error", "detail", "message"):
        if isinstance(value, dict) and name in value:
            return said(value[name], key)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0].get("msg", "")
    if not isinstance(value, str):
        return ""
    return without(SPACES.sub(" ", value).strip(), key)[:MOST_SHOWN].rstrip(" .")


def without(text: str, key: str) -> str:
    """The text with the key blacked out."""
    return text.replace(key, "***") if key else text


def seconds(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date; None where it holds neither."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except (ValueError, TypeError):
        return None


def _quoted(words: str) -> str:
    return f": “{words}”" if words else ""


def _when(wait: float | None) -> str:
    return "soon" if wait is None else f"in {max(1, round(wait))} seconds"
