"""What a server offers: told by itself where it can, else asked for without making it work, else by its refusals."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from omni.engine import Capabilities, Modality
from omni.engines.remote import faults
from omni.engines.remote.line import Line
from omni.errors import OmniError

if TYPE_CHECKING:
    from omni.engines.remote.dialects import OpenAI

log = logging.getLogger(__name__)

CONTEXT = 32_768  # tokens, where a server does not say
OUTPUTS: dict[str, Modality] = {"text": "text", "audio": "speech", "image": "image", "video": "video"}
SUPPORTED = re.compile(r"Supported modalities: ([\w, ]+)")
NONE_OF = re.compile(r"At most 0 (image|audio|video)")
NAMES = {"text": "text", "speech": "speech", "image": "pictures", "video": "clips", "audio": "sounds"}


@dataclass(frozen=True)
class Offer:
    """What may be asked of a model on a server. ``chat``: modalities in its chat, in the protocol's words."""

    model: str
    chat: frozenset[str]
    inputs: frozenset[str]
    voices: tuple[str, ...] = ()
    context_tokens: int = CONTEXT
    draws: bool = False  # /images/generations
    films: bool = False  # /videos
    reads_aloud: bool = False  # /audio/speech
    own: bool = False  # it is our own server, which tells its progress and decides by itself what comes back
    about: str = ""

    @property
    def outputs(self) -> frozenset[Modality]:
        """What can be wished for."""
        more = {"image": self.draws, "video": self.films, "speech": self.reads_aloud}
        return frozenset({OUTPUTS[name] for name in self.chat} | {name for name, there in more.items() if there})

    def capabilities(self, host: str) -> Capabilities:
        """The same for the page."""
        about = (
            self.about or f"It answers with {listed(self.outputs)}; which files it understands, it tells when asked."
        )
        about = f"{self.model}, on the server {host}. {about}"
        return Capabilities(self.inputs, self.outputs, self.voices, self.context_tokens, about)

    def without(self, refusal: faults.Rejected) -> Offer:
        """What is left after a refusal that names what a model cannot do; the same where it names nothing."""
        chat, inputs = self.chat, self.inputs
        if found := SUPPORTED.search(refusal.said):
            chat = frozenset(name.strip() for name in found[1].split(",")) & OUTPUTS.keys()
        if found := NONE_OF.search(refusal.said):
            inputs -= {found[1]}
        return replace(self, chat=chat or self.chat, inputs=inputs)


class Own(BaseModel):
    """What our own server says of its model."""

    inputs: list[str]
    outputs: list[str]
    voices: list[str] = []
    context_tokens: int = Field(CONTEXT, ge=1)
    about: str = Field("", max_length=1000)


class Model(BaseModel):
    id: str
    max_model_len: int | None = None
    omni: Own | None = None


class Models(BaseModel):
    data: list[Model] = []


def discover(line: Line, dialect: OpenAI, wanted: str) -> Offer:
    """Ask a server what it has; ``wanted`` is a model's name, empty for the first. Raises OmniError."""
    model = chosen(models_of(line, wanted), wanted)
    offer = dialect.offer(model.id)
    if model.max_model_len:
        offer = replace(offer, context_tokens=model.max_model_len)
    if model.omni is not None:
        words = {output: name for name, output in OUTPUTS.items()}
        chat = frozenset(words[output] for output in model.omni.outputs if output in words)
        inputs = frozenset(model.omni.inputs) & set(dialect.all_kinds)
        return replace(
            offer, chat=chat, inputs=inputs, voices=tuple(model.omni.voices), about=model.omni.about, own=True,
            context_tokens=model.omni.context_tokens,
        )  # fmt: skip
    return dialect.explore(line, offer)


def models_of(line: Line, wanted: str) -> list[Model]:
    """The models of a server; none where it has no list and a model was named. Raises OmniError."""
    try:
        return Models.model_validate_json(line.ask("GET", "/models")).data
    except (faults.Unknown, faults.ServerFailed):
        if wanted:
            return []
        raise
    except ValidationError as error:
        raise OmniError(f"{line.base_url}/models is no list of models; is --base-url right?") from error


def chosen(models: Sequence[Model], wanted: str) -> Model:
    """The model that was asked for, or the first. Raises OmniError where it is not there."""
    for model in models:
        if wanted in ("", model.id):
            return model
    if wanted and not models:  # some servers list what they have loaded, and load what they are asked for
        return Model(id=wanted)
    names = ", ".join(model.id for model in models[:8]) or "none"
    raise OmniError(f"The server has no model {wanted!r}; it has {names}. Please choose with --model.")


def refusal_of(line: Line, model: str) -> faults.Rejected | None:
    """What a server says to a reply in a modality that no model has; it refuses before it works."""
    body = {"model": model, "messages": [{"role": "user", "content": "."}], "modalities": ["smell"], "max_tokens": 1}
    try:
        line.ask("POST", "/chat/completions", json=body)
    except faults.Rejected as refusal:
        return refusal
    except faults.RemoteFault as fault:
        log.info("asked for modalities: %s", fault)
    return None


def has_route(line: Line, path: str) -> bool:
    """Whether a path is there for POST: GET is then refused as the wrong method, where it is not, as unknown."""
    try:
        line.ask("GET", path)
    except faults.Rejected:
        return True
    except faults.RemoteFault:
        return False
    return True


def voices_of(line: Line) -> tuple[str, ...] | None:
    """The voices that a server lists; None where it has no such list."""
    try:
        told: Any = json.loads(line.ask("GET", "/audio/voices"))
    except (faults.RemoteFault, ValueError):
        return None
    voices = told.get("voices") if isinstance(told, dict) else None
    return tuple(name for name in voices if isinstance(name, str))[:200] if isinstance(voices, list) else None


def listed(outputs: frozenset[Modality]) -> str:
    """``{"text", "speech"}`` is "text and speech"."""
    names = [NAMES[name] for name in ("text", "speech", "image", "video") if name in outputs]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
