"""What a program is told of a failure: OpenAI's error object, and a status."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from omni.errors import OmniError
from omni.serving.turns import Full

log = logging.getLogger(__name__)

OUR_FAULT = "Something went wrong in this server; please try again."
WAIT = 5  # seconds after which one who was turned away may try again


class Broken(OmniError):
    """A reply that was broken off, asked for as a whole."""


class Unknown(OmniError):
    """A model, a clip or an ability that is not here."""


def status_of(error: Exception) -> HTTPStatus:
    """The status of a failure before anything was sent."""
    match error:
        case Full():
            return HTTPStatus.TOO_MANY_REQUESTS
        case Unknown():
            return HTTPStatus.NOT_FOUND
        case Broken():
            return HTTPStatus.BAD_GATEWAY
        case OmniError():
            return HTTPStatus.BAD_REQUEST
    return HTTPStatus.INTERNAL_SERVER_ERROR


def body(error: Exception) -> dict[str, Any]:
    """The error object; what is no OmniError goes to the log alone."""
    status = status_of(error)
    if isinstance(error, OmniError):
        log.warning("a request failed: %s", error, exc_info=error.__cause__)
    else:
        log.error("a request failed", exc_info=error)
    sentence = str(error) if isinstance(error, OmniError) else OUR_FAULT
    kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    return {
        "error": {"message": sentence, "type": kind, "param": None, "code": status.phrase.lower().replace(" ", "_")}
    }


def headers(error: Exception) -> dict[str, str]:
    """What a status brings along."""
    return {"Retry-After": str(WAIT)} if isinstance(error, Full) else {}


def sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    """What pydantic found, the first of it, as one sentence."""
    first = errors[0]
    where = ".".join(str(step) for step in first["loc"] if step != "body")
    return f"The request cannot be read{f' at {where}' if where else ''}: {first['msg']}."
