"""The program that reads a stranger's credentials, in a process that may be killed.

Started by ``sandbox.run`` as ``python -m omni.provenance.reading REQUEST``: the file is at 0, the answer goes to 1. It
answers with the fields of Credentials and, where asked, an archive of the credentials as an ingredient.
"""

from __future__ import annotations

import io
import json
import sys
import traceback
from typing import Any, BinaryIO

import c2pa

from omni.media.limits import Limits
from omni.media.sandbox import confine
from omni.media.sniff import HEAD, by_magic
from omni.provenance.credentials import CREATED, EDITED, LOCAL

LONGEST = 300  # characters of anything that a stranger wrote
MOST = 20  # ingredients that are told
MADE = {CREATED: "created", EDITED: "edited"}
MIME = {
    "PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "wav": "audio/wav", "flac": "audio/flac",
    "mp3": "audio/mpeg", "mov": "video/mp4",
}  # fmt: skip
CHANGED = (".mismatch", "assertion.missing", "assertion.hashedURI")  # in the codes of failures


def facts_of(file: BinaryIO, trusted: str = "", root: str = "", serial: str = "") -> dict[str, Any]:
    """The fields of Credentials for an open file.

    Signers under the certificates ``trusted`` (PEM) are trusted. The one whose certificate has the number ``serial``
    and stands under ``root`` is the one who asks.
    """
    store = _store(file, trusted)
    if isinstance(store, str):
        return {"state": store}
    facts = _told(store)
    if root and facts["serial"] == serial and facts["state"] in ("valid", "trusted"):
        own = _store(file, root)
        if isinstance(own, dict) and own.get("validation_state") == "Trusted":
            facts["state"] = "ours"
    return facts


def _store(file: BinaryIO, anchors: str) -> dict[str, Any] | str:
    """The manifest store as c2pa tells it, or the state of credentials where there is none."""
    file.seek(0)
    kind = "zip" if file.read(4) == b"PK\x03\x04" else None  # the one that c2pa reads and does not recognise
    file.seek(0)
    settings = {**LOCAL, "trust": {"trust_anchors": anchors}} if anchors else LOCAL
    with c2pa.Context.from_dict(settings) as context:
        try:
            reader = c2pa.Reader.try_create(kind, file, context=context)
        except c2pa.C2paError.NotSupported:
            return "unsupported"
        except c2pa.C2paError:
            traceback.print_exc(limit=-1)
            return "unreadable"
        if reader is None:
            return "none"
        with reader:
            return json.loads(reader.json())


def _told(store: dict[str, Any]) -> dict[str, Any]:
    """The fields of Credentials for a manifest store as c2pa tells it."""
    manifests = store.get("manifests", {})
    active = manifests.get(store.get("active_manifest"), {})
    results = store.get("validation_results", {}).get("activeManifest", {})
    codes = [result.get("code", "") for result in results.get("failure", [])]
    signature = active.get("signature_info") or {}
    actions = _actions(active)
    maker = next((one for one in actions if one.get("digitalSourceType") in MADE), {})
    return {
        "state": store.get("validation_state", "Invalid").lower(),
        "changed": any(mark in code for code in codes for mark in CHANGED),
        "signer": _short(signature.get("common_name") or signature.get("issuer")),
        "serial": _short(signature.get("cert_serial_number")),
        "generator": _short(
            (active.get("claim_generator_info") or [{}])[0].get("name") or active.get("claim_generator")
        ),
        "engine": _short(_agent(maker)),
        "when": _short(signature.get("time") or maker.get("when")),
        "stamped": bool(signature.get("time")),
        "made": MADE.get(maker.get("digitalSourceType"), ""),
        "prompt": _short(maker.get("description")),
        "ingredients": [_ingredient(one, manifests) for one in active.get("ingredients", [])[:MOST]],
    }


def _actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found = [one["data"] for one in manifest.get("assertions", []) if one.get("label", "").startswith("c2pa.actions")]
    return [action for data in found for action in data.get("actions", [])]


def _agent(action: dict[str, Any]) -> str:
    agent = action.get("softwareAgent", "")
    return agent.get("name", "") if isinstance(agent, dict) else agent


def _ingredient(one: dict[str, Any], manifests: dict[str, Any]) -> str:
    """One line: what the file was to the new one, and who signed it."""
    role = "edited from" if one.get("relationship") == "parentOf" else "made with"
    kind = _short(one.get("format")).partition("/")[0] or "file"
    own = manifests.get(one.get("active_manifest"))
    if own is None:
        return f"{role} a file without credentials ({kind})"
    signature = own.get("signature_info") or {}
    failures = (one.get("validation_results") or {}).get("activeManifest", {}).get("failure", [])
    broken = any(failure.get("code") != "signingCredential.untrusted" for failure in failures)
    signer = _short(signature.get("common_name") or signature.get("issuer")) or "someone unnamed"
    return f"{role} a file signed by {signer}" + (", whose credentials did not hold" if broken else "") + f" ({kind})"


def _short(text: Any) -> str:
    return str(text or "")[:LONGEST]


def archive_of(file: BinaryIO) -> bytes:
    """The file's credentials as an ingredient, with what c2pa found of them, in c2pa's own archive."""
    archive = io.BytesIO()
    with c2pa.Context.from_dict(LOCAL) as context, c2pa.Builder({"assertions": []}, context=context) as builder:
        builder.add_ingredient({"title": "upload", "relationship": "inputTo", "label": "upload"}, mime_of(file), file)
        builder.write_ingredient_archive("upload", archive)
    return archive.getvalue()


def mime_of(file: BinaryIO) -> str:
    """The type of an uploaded file by its first bytes."""
    file.seek(0)
    found = by_magic(file.read(HEAD))
    file.seek(0)
    return MIME.get(found.container, "") if found else ""


def main() -> None:
    """Answer one request on the standard files."""
    request = json.loads(sys.argv[1])
    confine(Limits(**request["limits"]))
    file, archive = sys.stdin.buffer.raw, b""
    facts = facts_of(file, request["trusted"], request.get("root", ""), request.get("serial", ""))
    if request["keep"] and facts["state"] in ("valid", "trusted", "ours", "invalid"):
        archive = archive_of(file)
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n" + archive)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
