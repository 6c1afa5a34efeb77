"""Checking a file: each kind of origin gets its own sentence, whatever the file, and never a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from media_files import photo, picture_file, sound_file, tone
from PIL import Image

from omni import media
from omni.conversation import Conversation, Message, Text
from omni.errors import Refused
from omni.provenance.__main__ import main
from omni.provenance.check import CHECKED, check
from omni.provenance.credentials import Claim, sign
from omni.provenance.imprint import Imprint
from omni.provenance.keys import FOLDER, TRUSTED, Keys, open_keys
from omni.provenance.marks import watermark_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def ours(tmp_path: Path, keys: Keys) -> Path:
    """A picture that this playground made."""
    imprint = Imprint(tmp_path, keys, "Fake", Conversation(tmp_path, (Message("user", (Text("draw"),)),)))
    return imprint.image(watermark_of(keys.watermark).mark_picture(photo(), 46), "").path


def lines(report) -> dict[str, str]:
    return dict(report.lines)


def test_what_was_made_here_is_said_to_be(ours: Path, keys: Keys):
    report = check(ours, keys)
    assert report.verdict == "ours" and report.mark.sure and report.mark.payload == 46
    said = lines(report)
    assert "signed here by “Omni Playground " in said["Credentials"] and "not a bit" in said["Credentials"]
    assert said["Made by AI"] == "yes, a model (Fake) made it."
    assert "week of 23 November 2026" in said["Watermark"] and "one in a billion" in said["Watermark"]
    assert report.words.startswith("Made by this playground, and unchanged since.")


def test_what_lost_its_credentials_is_known_by_its_mark(ours: Path, keys: Keys):
    copy = ours.with_suffix(".jpg")
    Image.open(ours).save(copy, quality=75)
    report = check(copy, keys)
    assert report.verdict == "stripped" and lines(report)["Credentials"] == "it carries no content credentials."


def test_what_was_changed_is_said_to_be(ours: Path, keys: Keys):
    brighter = np.clip(np.asarray(Image.open(ours)) * 1.05, 0, 255).astype(np.uint8)
    edited = picture_file(ours.with_name("edited.png"), brighter).read_bytes()
    edited_path = ours.with_name("edited.png")
    edited_path.write_bytes(edited[:33] + chunk_of(ours.read_bytes()) + edited[33:])  # behind the header
    report = check(edited_path, keys)
    assert report.verdict == "ours-changed" and "its content is not what was signed" in lines(report)["Credentials"]
    assert "Made by AI" not in lines(report)  # what altered credentials say is worth nothing


def test_words_of_credentials_that_were_altered_are_said_to_be(tmp_path: Path, keys: Keys):
    path = sound_file(tmp_path / "unmarked.wav", tone(), "wav")
    sign(path, Claim("Fake", NOW, marked=False), keys)
    path.write_bytes(path.read_bytes().replace(b"Fake", b"Real"))
    report = check(path, keys)
    assert report.verdict == "changed" and "Watermark" in lines(report)


def chunk_of(png: bytes) -> bytes:
    """The chunk of a PNG that holds its credentials."""
    start = png.index(b"caBX") - 4
    return png[start : start + 12 + int.from_bytes(png[start : start + 4], "big")]


def test_another_playground_is_not_taken_for_this_one(ours: Path, keys: Keys, tmp_path: Path):
    report = check(ours, open_keys(tmp_path / "other", environment={}))
    assert report.verdict == "other-playground" and "not found" in lines(report)["Watermark"]
    assert "Whose key that is" in lines(report)["Cannot be known"]


def test_a_foreign_signer_is_named_and_not_vouched_for(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch):
    path = picture_file(tmp_path / "a.jpg", photo(), "JPEG")
    other = open_keys(tmp_path / "other", environment={})
    with monkeypatch.context() as patched:
        patched.setattr("omni.provenance.credentials.GENERATOR", "A camera")
        sign(path, Claim("Their model", NOW, marked=False), other)
    report = check(path, keys)
    assert report.verdict == "foreign" and "with A camera" in lines(report)["Credentials"]
    assert "Nobody here vouches" in lines(report)["Cannot be known"]
    trusting = check(path, replace(keys, trusted=other.signing.root))
    assert "whom this playground trusts" in lines(trusting)["Credentials"]
    assert TRUSTED.endswith(".pem") and lines(trusting)["Cannot be known"] == "Whether what it shows is true."


def test_what_tells_nothing_is_not_called_human(tmp_path: Path, keys: Keys):
    report = check(picture_file(tmp_path / "a.png", photo()), keys)
    assert report.verdict == "unknown" and lines(report)["Cannot be known"].startswith("Whether a person or a model")


@pytest.mark.parametrize("kind", ["ogg", "webm"])
def test_kinds_without_credentials_are_still_looked_at_for_a_mark(tmp_path: Path, keys: Keys, kind: str):
    voice = tone(2.0) + 0.05 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    marked = watermark_of(keys.watermark).voice(16_000, 46).push(voice)
    report = check(sound_file(tmp_path / f"a.{kind}", marked, kind), keys)
    assert report.verdict == "stripped" and "no content credentials that can be read" in lines(report)["Credentials"]


JUNK: dict[str, Callable[[], bytes]] = {
    "text": lambda: b"just words",
    "half a picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(300),
    "noise": lambda: np.random.default_rng(1).bytes(50_000),
    "a playlist": lambda: b"#EXTM3U\n/etc/passwd",
    "markup": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
}


@pytest.mark.parametrize("junk", JUNK)
def test_anything_can_be_dropped(tmp_path: Path, keys: Keys, junk: str):
    path = tmp_path / "anything"
    path.write_bytes(JUNK[junk]())
    report = check(path, keys)
    assert report.verdict in ("unknown", "unreadable") and report.mark is None
    assert lines(report)["Watermark"].startswith("it could not be looked for: ")


def test_what_cannot_be_checked_is_a_sentence(tmp_path: Path, keys: Keys):
    (tmp_path / "empty").touch()
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(CHECKED.upload_bytes + 1)
    for name, sentence in (("empty", "empty"), ("huge", "too large"), ("missing", "no such file")):
        with pytest.raises(Refused, match=sentence):
            check(tmp_path / name, keys)


def test_without_keys_the_rest_is_still_told(ours: Path, keys: Keys):
    report = check(ours, replace(keys, signing=None, watermark=None))
    assert (
        report.verdict == "other-playground" and "key of this playground cannot be read" in lines(report)["Watermark"]
    )


def test_the_command_says_the_same(ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([str(ours), "--root", str(tmp_path / "nowhere")]) == 1
    told = capsys.readouterr()
    assert "nothing can be known as ours" in told.err and not (tmp_path / "nowhere").exists()
    keys = open_keys(tmp_path / FOLDER, environment={})
    mine = media.write_image(watermark_of(keys.watermark).mark_picture(photo(), 1), tmp_path)
    assert main([str(mine.path), "--root", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "stripped" and told["mark"]["sure"] and told["mark"]["week"] == "2026-01-12"
    assert main([str(tmp_path / "missing"), "--root", str(tmp_path)]) == 2
    assert "no such file" in capsys.readouterr().err
