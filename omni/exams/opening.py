"""From settings to an engine that sits the exam, and what the host lacks for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from omni.engine import Engine, bare
from omni.engines import open_engine
from omni.engines.primer import WEIGHTS, PrimerEngine
from omni.exams.primer import Codec, unshipped
from omni.exams.student import Student
from omni.primer.training import voices, world
from omni.settings import Settings


def absent() -> str:
    """What the exam needs and does not find here, in one sentence, or nothing."""
    if not world.FONT.exists():
        return "The exam draws with the emoji font of the Debian package fonts-noto-color-emoji; please install it."
    if not voices.available():
        return "The exam speaks with the Debian package espeak-ng; please install it."
    return ""


def student_of(engine: Engine) -> Student:
    """An engine as a student: Primer knows the book, on another machine too, and here it has a codec.

    Others are told the forms of the book's answers.
    """
    behind = bare(engine)
    if isinstance(behind, PrimerEngine):
        return Student(engine, Codec(behind.tokenizers))
    return Student(engine, explain=engine.name != PrimerEngine.name)


def open_student(settings: Settings, weights: Path = WEIGHTS, checkpoint: Path | None = None) -> Student:
    """The engine of ``settings``, Primer with the weights in a folder or those of a training checkpoint.

    Raises OmniError where it cannot be opened.
    """
    if settings.engine != "primer":
        return student_of(open_engine(settings))
    if checkpoint is not None:
        return student_of(unshipped(weights, checkpoint))
    slabs = settings.root / "experts"
    return student_of(PrimerEngine.open(settings.device, weights, settings.memory, slabs))


def fingerprint(settings: Settings, weights: Path = WEIGHTS, checkpoint: Path | None = None) -> str:
    """What tells these weights from others: of Primer their content, of others the name of the checkpoint."""
    if settings.engine != "primer":
        return "-".join(filter(None, (settings.model.strip("/").rpartition("/")[2], settings.revision[:8])))
    digest = hashlib.sha256()
    for path in [checkpoint] if checkpoint else sorted(weights.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:8]
