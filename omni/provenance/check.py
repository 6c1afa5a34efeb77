"""What can be said of a file: who signed it, whether it is whole, what made it, whether our mark stands in it.

In plain words, with what cannot be known. Files are read in a process that may be killed.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from omni import media
from omni.errors import Refused
from omni.provenance import credentials
from omni.provenance.credentials import GENERATOR, Credentials
from omni.provenance.keys import Keys
from omni.provenance.marks import watermark_of
from omni.provenance.watermark import Found

log = logging.getLogger(__name__)

CHECKED = replace(media.LIMITS, sound_seconds=300.0)

Verdict = Literal["ours", "ours-changed", "stripped", "other-playground", "foreign", "changed", "unreadable", "unknown"]

HEADLINES: dict[Verdict, str] = {
    "ours": "Made by this playground, and unchanged since",
    "ours-changed": "Made by this playground, and changed since",
    "stripped": "Made by this playground; its credentials are gone",
    "other-playground": "Signed by an Omni Playground that is not known here",
    "foreign": "Signed by somebody else, and unchanged since",
    "changed": "Changed after it was signed",
    "unreadable": "Its credentials cannot be read",
    "unknown": "Nothing in this file tells where it comes from",
}
NOT_KNOWN: dict[Verdict, str] = {
    "ours": "Whether what it shows is true.",
    "ours-changed": "What was changed, and by whom.",
    "stripped": "What was done to it since. Saving a file anew is enough to lose its credentials.",
    "other-playground": "Whose key that is. This playground had other keys once, if its data folder was lost.",
    "foreign": "Whether the signer is who the name says. Nobody here vouches for it.",
    "changed": "What was changed, and by whom.",
    "unreadable": "What the credentials said.",
    "unknown": "Whether a person or a model made it: credentials and marks can be removed, and other models leave "
    "other marks or none.",
}


@dataclass(frozen=True)
class Report:
    """What was found: a verdict, its headline, and lines of a topic and a sentence that say why."""

    verdict: Verdict
    headline: str
    lines: tuple[tuple[str, str], ...]
    credentials: Credentials
    mark: Found | None  # None where it could not be looked for

    @property
    def words(self) -> str:
        """All of it as plain text."""
        return "\n".join([f"{self.headline}.", *(f"{topic}: {sentence}" for topic, sentence in self.lines)])

    def facts(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        mark = self.mark and {"sure": self.mark.sure, "p": self.mark.p, "week": self.mark.week.isoformat()}
        told = {"verdict": self.verdict, "headline": self.headline, "lines": [list(line) for line in self.lines]}
        return {**told, "credentials": asdict(self.credentials), "mark": mark}


def check(path: Path, keys: Keys) -> Report:
    """Look at any file. Raises Refused only where it is not there, empty or too large."""
    path = Path(path)
    if not path.is_file():
        raise Refused("There is no such file; please choose one.")
    size = path.stat().st_size
    if not size:
        raise Refused("This file is empty; please choose another one.")
    if size > CHECKED.upload_bytes:
        raise Refused(f"This file is too large; at most {CHECKED.upload_bytes // 2**20} MB can be checked.")
    with path.open("rb") as file:
        found, _ = credentials.read(file, keys, limits=CHECKED)
    mark, why = find_mark(path, keys)
    verdict = verdict_of(found, mark)
    lines = [
        ("Credentials", _of_credentials(found)),
        *(("Made by AI", sentence) for sentence in _of_making(found)),
        *(("Went in", f"it was {line}.") for line in found.ingredients),
        ("Watermark", _of_mark(mark, why)),
        ("Cannot be known", NOT_KNOWN["ours" if found.state == "trusted" else verdict]),
    ]
    return Report(verdict, HEADLINES[verdict], tuple(lines), found, mark)


def find_mark(path: Path, keys: Keys) -> tuple[Found | None, str]:
    """The likeliest mark in a file, or None and the reason why it could not be looked for."""
    if keys.watermark is None:
        return None, "the watermark key of this playground cannot be read."
    with tempfile.TemporaryDirectory(prefix="omni-") as folder:
        try:
            part = media.take(path, Path(folder), CHECKED)
        except Refused as refusal:
            reason, _, _ = str(refusal).rstrip(".").partition(";")  # what to do about it is no matter here
            return None, f"{reason[:1].lower()}{reason[1:]}."
        return watermark_of(keys.watermark).find(part), ""


def verdict_of(found: Credentials, mark: Found | None) -> Verdict:
    """The one thing to say first."""
    marked = mark is not None and mark.sure
    if found.state == "invalid":
        return "ours-changed" if marked else "changed"
    if found.state == "ours":
        return "ours"
    if found.state in ("valid", "trusted"):
        return "other-playground" if found.generator == GENERATOR else "foreign"
    if marked:
        return "stripped"
    return "unreadable" if found.state == "unreadable" else "unknown"


def _of_credentials(found: Credentials) -> str:
    """Who signed it, and is it whole."""
    signer = f"“{found.signer}”" if found.signer else "someone unnamed"
    match found.state:
        case "none":
            return "it carries no content credentials."
        case "unsupported":
            return "files of this kind carry no content credentials that can be read here."
        case "unreadable":
            return "it carries something like content credentials, or is damaged; they cannot be read."
        case "invalid" if found.changed:
            return f"{signer} signed it, but its content is not what was signed."
        case "invalid":
            return f"they are in the name of {signer}, but they were altered or never held."
    program = "" if found.generator == GENERATOR else f" with {found.generator or 'a program unnamed'}"
    vouched = ", whom this playground trusts" if found.state == "trusted" else ""
    place = " here" if found.state == "ours" else ""
    return f"signed{place} by {signer}{vouched}{program}{_on(found)}; not a bit of it has changed since."


def _on(found: Credentials) -> str:
    """The time of signing, and who tells it."""
    try:
        day = f"{datetime.fromisoformat(found.when).astimezone(UTC):%d %B %Y, %H:%M} UTC"
    except ValueError:
        return ""
    return f" on {day}, as a time-stamp authority confirms" if found.stamped else f", by its own account on {day}"


def _of_making(found: Credentials) -> list[str]:
    """Made or edited by a model, and asked for how."""
    if found.state not in ("valid", "trusted", "ours"):
        return []
    engine = f" ({found.engine})" if found.engine else ""
    made = {
        "created": f"yes, a model{engine} made it.",
        "edited": f"yes, it was edited with a model{engine}.",
        "": "its credentials do not say so.",
    }[found.made]
    return [made, *([f"it was asked for with the words “{found.prompt}”."] if found.prompt else [])]


def _of_mark(mark: Found | None, why: str) -> str:
    """Whether our watermark stands in it, and how sure that is."""
    if mark is None:
        return f"it could not be looked for: {why}"
    if not mark.sure:
        return "the one of this playground was not found."
    odds = "less than one in a billion" if mark.p < 1e-9 else f"at most one in {1 / mark.p:,.0f}"
    where = f"the one of this playground stands in it, from the week of {mark.week:%d %B %Y}"
    return f"{where}. The chance that this is an accident is {odds}."
