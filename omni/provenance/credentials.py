"""Content credentials (C2PA 2.x): what is claimed of a file, signed into the file, and read out of any file again.

Signing happens here, in this process, on files of our own making. Reading happens in a process that may be killed, as
credentials in an upload are bytes of a stranger. Nothing is fetched from anywhere, except a time stamp, where an
authority is named.
"""

from __future__ import annotations

import dataclasses
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import c2pa

from omni.errors import OmniError, Refused
from omni.media import LIMITS, Limits, sandbox
from omni.provenance.keys import Keys

log = logging.getLogger(__name__)

GENERATOR = "Omni Playground"
MIME = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
    ".wav": "audio/wav", ".mp3": "audio/mpeg", ".flac": "audio/flac", ".m4a": "audio/mp4",
    ".mp4": "video/mp4", ".mov": "video/quicktime", ".zip": "zip",
}  # fmt: skip
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
CREATED, EDITED = SOURCE + "trainedAlgorithmicMedia", SOURCE + "compositeWithTrainedAlgorithmicMedia"
LOCAL = {  # nothing is fetched; a thumbnail would be larger than the file
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
READER = ("-m", "omni.provenance.reading")
KEPT = ".c2pa"  # beside a part: the credentials with which it was uploaded
NO_TIME = "The time-stamp authority did not answer, so this reply is signed without a time stamp."
NOT_CARRIED = "The credentials that your file came with could not be carried on into this reply."
UNSIGNED = "This reply could not be signed; whoever runs this playground finds the reason in its log."


class CannotSign(OmniError):
    """A file that stays unsigned; the message says why, for a visitor."""


@dataclass(frozen=True)
class Ingredient:
    """A file that went in; ``parent`` where the new file is an edit of it. It brings the credentials beside it."""

    path: Path
    parent: bool = False


@dataclass(frozen=True)
class Claim:
    """What is said of a file that a model made."""

    engine: str
    when: datetime  # with a time zone
    marked: bool  # whether a watermark stands in it
    ingredients: tuple[Ingredient, ...] = ()
    prompt: str = ""  # only where the visitor wishes

    def manifest(self, title: str) -> dict[str, Any]:
        """The claim as c2pa takes it."""
        agent = {"softwareAgent": {"name": self.engine}, "when": self.when.isoformat(timespec="seconds")}
        if self.prompt:
            agent["description"] = self.prompt
        edits = any(one.parent for one in self.ingredients)
        inputs = [_label(n) for n, one in enumerate(self.ingredients) if not one.parent]
        if inputs:
            agent["parameters"] = {"ingredientIds": inputs}
        made = {"action": "c2pa.created", "digitalSourceType": CREATED, **agent}
        actions: list[dict[str, Any]] = [made]
        if edits:
            parents = [_label(n) for n, one in enumerate(self.ingredients) if one.parent]
            opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": parents}}
            actions = [opened, {**made, "action": "c2pa.edited", "digitalSourceType": EDITED}]
        if self.marked:
            actions.append({"action": "c2pa.watermarked.unbound"})
        return {
            "claim_generator_info": [{"name": GENERATOR}],
            "title": title,
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
        }


def sign(path: Path, claim: Claim, keys: Keys) -> str:
    """Put signed credentials into the file, which is replaced at once by the signed one.

    Returns a sentence where something is missing (a time stamp, credentials of what went in), else nothing. Raises
    CannotSign with a sentence; then the file is as it was.
    """
    mime = MIME.get(path.suffix.lower())
    if mime is None:
        raise CannotSign(f"{path.suffix[1:].upper()} files cannot carry credentials, so this one is not signed.")
    if keys.signing is None:
        raise CannotSign(keys.trouble)
    payload, failure = path.read_bytes(), None
    for timestamps, carry, missing in _ways(claim, keys):
        try:
            signed = _signed(payload, mime, path.name, claim, keys, timestamps, carry)
            _replace(path, signed)
        except (c2pa.C2paError, OSError) as error:
            log.warning("%s could not be signed: %s", path.name, error)
            failure = error
            continue
        return missing
    raise CannotSign(UNSIGNED) from failure


def _replace(path: Path, content: bytes) -> None:
    """The file holds the old content or the new, never a part of either."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _ways(claim: Claim, keys: Keys) -> Iterator[tuple[str, bool, str]]:
    """How to sign, the best way first: a time-stamp authority, whether credentials are carried on, what is missing."""
    yield keys.timestamps, True, ""
    if keys.timestamps:
        yield "", True, NO_TIME
    if any(one.path.with_suffix(KEPT).exists() for one in claim.ingredients):
        yield "", False, NOT_CARRIED


def _signed(payload: bytes, mime: str, title: str, claim: Claim, keys: Keys, timestamps: str, carry: bool) -> bytes:
    info = c2pa.C2paSignerInfo(
        keys.signing.algorithm, keys.signing.chain, keys.signing.key, timestamps.encode() or None
    )
    signed = io.BytesIO()
    with (
        c2pa.Signer.from_info(info) as signer,
        c2pa.Context.from_dict(LOCAL) as context,
        c2pa.Builder(claim.manifest(title), context=context) as builder,
    ):
        for number, ingredient in enumerate(claim.ingredients):
            _add(builder, ingredient, _label(number), carry)
        builder.sign(signer, mime, io.BytesIO(payload), signed)
    return signed.getvalue()


def _label(number: int) -> str:
    return f"ingredient {number}"


def _add(builder: c2pa.Builder, ingredient: Ingredient, label: str, carry: bool) -> None:
    relationship = "parentOf" if ingredient.parent else "inputTo"
    about = {"title": ingredient.path.name, "relationship": relationship, "label": label}
    kept = ingredient.path.with_suffix(KEPT)
    if carry and kept.exists():
        builder.add_ingredient(about, "application/c2pa", io.BytesIO(kept.read_bytes()))
    else:
        builder.add_ingredient(about, MIME[ingredient.path.suffix], io.BytesIO(ingredient.path.read_bytes()))


@dataclass(frozen=True)
class Credentials:
    """What a file says of itself, and whether that holds.

    ``state``: none; unsupported (a kind that carries none that we could read); unreadable; valid (whole, by someone
    whom nobody here vouches for); trusted; ours; invalid. ``changed``: the content is not the one that was signed.
    """

    state: Literal["none", "unsupported", "unreadable", "valid", "trusted", "ours", "invalid"] = "none"
    changed: bool = False
    signer: str = ""
    serial: str = ""  # number of the signer's certificate
    generator: str = ""  # the program that made the claim
    engine: str = ""  # the model, where the claim names one
    when: str = ""  # as the file tells it, ISO 8601
    stamped: bool = False  # the time comes from a time-stamp authority
    made: Literal["created", "edited", ""] = ""  # by a model, or with one
    prompt: str = ""
    ingredients: tuple[str, ...] = ()  # what went in, a line each


def carries(file: BinaryIO) -> bool:
    """Whether there may be credentials in an open file: their label stands in every one that has some."""
    file.seek(0)
    end = b""
    while block := file.read(2**20):
        if b"c2pa" in end + block:
            return True
        end = block[-3:]
    return False


def read(file: BinaryIO, keys: Keys, keep: bool = False, limits: Limits = LIMITS) -> tuple[Credentials, bytes]:
    """The credentials in an open file of a stranger and, where ``keep`` is set, an archive to carry them on with.

    A file that cannot even be looked at in bounds of time and memory has credentials that are unreadable.
    """
    request = {"limits": dataclasses.asdict(limits), "trusted": keys.trusted.decode(), "keep": keep}
    if keys.signing is not None:
        request |= {"root": keys.signing.root.decode(), "serial": keys.signing.serial}
    try:
        facts, archive = sandbox.run(file, request, limits, READER)
    except Refused as refusal:
        log.warning("credentials could not be read: %s", refusal)
        return Credentials("unreadable"), b""
    return Credentials(**{**facts, "ingredients": tuple(facts.get("ingredients", ()))}), archive
