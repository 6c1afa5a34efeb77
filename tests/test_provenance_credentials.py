"""Credentials: signed into every kind of file that we know, read by c2pa itself, and again in the sandbox."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import av
import c2pa
import numpy as np
import pytest
import soundfile
from media_files import clip_file, photo, picture_file, sound_file, tone
from PIL import Image

from omni.media import LIMITS
from omni.provenance.credentials import (
    CREATED,
    EDITED,
    KEPT,
    MIME,
    NOT_CARRIED,
    UNSIGNED,
    CannotSign,
    Claim,
    Ingredient,
    carries,
    read,
    sign,
)
from omni.provenance.keys import UNREADABLE, Keys, make_signing, open_keys
from omni.provenance.reading import facts_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PLAIN = Claim("Primer", NOW, marked=True)


def made(folder: Path, kind: str) -> Path:
    """A small file of a kind."""
    path = folder / f"made.{kind}"
    if kind in ("png", "jpg", "jpeg", "webp"):
        return picture_file(path, photo(), {"jpg": "JPEG"}.get(kind, kind.upper()))
    if kind in ("wav", "flac", "mp3", "m4a", "ogg", "webm"):
        return sound_file(path, tone(), kind)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a.txt", "words")
        return path
    return clip_file(path, container={"mov": "mov"}.get(kind, kind))


def content(path: Path) -> bytes:
    """What a person would see or hear of a file, decoded by a library that knows nothing of C2PA."""
    if path.suffix in (".png", ".jpg", ".jpeg", ".webp"):
        return Image.open(path).convert("RGB").tobytes()
    if path.suffix in (".wav", ".flac"):
        return soundfile.read(path)[0].tobytes()
    if path.suffix == ".zip":
        return zipfile.ZipFile(path).read("a.txt")
    with av.open(str(path)) as file:
        return b"".join(frame.to_ndarray().tobytes() for frame in file.decode())


def verified(path: Path, keys: Keys, anchors: bool = True) -> dict:
    """What c2pa's own reader says of a file."""
    trust = {"trust": {"trust_anchors": keys.signing.root.decode()}} if anchors else {}
    with c2pa.Context.from_dict(trust) as context, path.open("rb") as file:  # noqa: SIM117
        with c2pa.Reader(MIME[path.suffix], file, context=context) as reader:
            return json.loads(reader.json())


def actions_of(told: dict) -> list[dict]:
    """The actions of the active manifest."""
    assertions = told["manifests"][told["active_manifest"]]["assertions"]
    return next(one["data"]["actions"] for one in assertions if one["label"].startswith("c2pa.actions"))


def looked_at(path: Path, keys: Keys, **more):
    with path.open("rb") as file:
        return read(file, keys, **more)


@pytest.mark.parametrize("kind", [suffix[1:] for suffix in MIME])
def test_every_kind_is_signed_and_found_valid_and_its_content_stays(tmp_path: Path, keys: Keys, kind: str):
    path = made(tmp_path, kind)
    before, size = content(path), path.stat().st_size
    assert sign(path, PLAIN, keys) == ""
    told = verified(path, keys)
    assert told["validation_state"] == "Trusted"
    actions = actions_of(told)
    assert actions[0]["action"] == "c2pa.created" and actions[0]["digitalSourceType"] == CREATED
    assert actions[0]["softwareAgent"]["name"] == "Primer" and "description" not in actions[0]
    assert content(path) == before
    assert path.stat().st_size < size + 20_000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["ogg", "webm"])
def test_a_kind_that_cannot_carry_credentials_is_said_and_left_as_it_was(tmp_path: Path, keys: Keys, kind: str):
    path = made(tmp_path, kind)
    before = path.read_bytes()
    with pytest.raises(CannotSign, match=f"{kind.upper()} files cannot carry credentials"):
        sign(path, PLAIN, keys)
    assert path.read_bytes() == before
    assert looked_at(path, keys)[0].state == "unsupported"


def test_the_prompt_stands_there_only_where_it_is_wished(tmp_path: Path, keys: Keys):
    path = made(tmp_path, "png")
    sign(path, replace(PLAIN, prompt="draw a cat"), keys)
    assert looked_at(path, keys)[0].prompt == "draw a cat"


def test_what_was_given_is_an_ingredient_and_what_was_edited_the_parent(tmp_path: Path, keys: Keys):
    picture, sound = picture_file(tmp_path / "a.png", photo()), sound_file(tmp_path / "b.wav", tone(), "wav")
    path = made(tmp_path, "png")
    sign(path, replace(PLAIN, ingredients=(Ingredient(sound), Ingredient(picture, parent=True))), keys)
    told = verified(path, keys)
    manifest = told["manifests"][told["active_manifest"]]
    assert told["validation_state"] == "Trusted"
    relations = {one["title"]: one["relationship"] for one in manifest["ingredients"]}
    assert relations == {"b.wav": "inputTo", "a.png": "parentOf"}
    opened, edited, marked = actions_of(told)
    assert (opened["action"], edited["action"], edited["digitalSourceType"]) == ("c2pa.opened", "c2pa.edited", EDITED)
    assert marked["action"] == "c2pa.watermarked.unbound"
    found, _ = looked_at(path, keys)
    assert found.made == "edited" and len(found.ingredients) == 2


def test_credentials_of_an_ingredient_are_carried_on(tmp_path: Path, keys: Keys):
    other = open_keys(tmp_path / "other", environment={})
    theirs = made(tmp_path, "jpg")
    sign(theirs, replace(PLAIN, engine="Their model"), other)
    found, archive = looked_at(theirs, keys, keep=True)
    assert found.state == "valid" and archive
    part = picture_file(tmp_path / "part.png", photo())  # what is kept of an upload
    part.with_suffix(KEPT).write_bytes(archive)
    path = made(tmp_path, "png")
    sign(path, replace(PLAIN, ingredients=(Ingredient(part, parent=True),)), keys)
    told = verified(path, keys)
    signers = {manifest["signature_info"]["cert_serial_number"] for manifest in told["manifests"].values()}
    assert told["validation_state"] == "Trusted" and signers == {keys.signing.serial, other.signing.serial}
    assert looked_at(path, keys)[0].ingredients == (f"edited from a file signed by {found.signer} (image)",)


def test_a_changed_pixel_and_changed_words_are_noticed(tmp_path: Path, keys: Keys):
    path = made(tmp_path, "wav")
    sign(path, PLAIN, keys)
    whole = path.read_bytes()
    path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    assert looked_at(path, keys)[0].state == "invalid" and looked_at(path, keys)[0].changed
    path.write_bytes(whole.replace(b"Primer", b"Camera"))
    assert looked_at(path, keys)[0].state == "invalid"


def test_somebody_elses_signature_is_valid_and_not_trusted(tmp_path: Path, keys: Keys):
    path = made(tmp_path, "flac")
    sign(path, PLAIN, open_keys(tmp_path / "other", environment={}))
    assert looked_at(path, keys)[0].state == "valid"


def test_who_stands_under_the_same_root_is_not_us(tmp_path: Path, keys: Keys):
    path = made(tmp_path, "png")
    sign(path, PLAIN, keys)
    neighbour = replace(keys.signing, chain=make_signing() + keys.signing.root)
    assert looked_at(path, replace(keys, signing=neighbour))[0].state == "valid"
    trusting = replace(keys, signing=None, trusted=keys.signing.root)
    assert looked_at(path, trusting)[0].state == "trusted"


def test_a_program_that_names_no_model_is_read_as_such(tmp_path: Path, keys: Keys):
    source, signed = io.BytesIO(), io.BytesIO()
    Image.fromarray(photo()).save(source, "PNG")
    manifest = {"claim_generator_info": [{"name": "A camera"}], "assertions": []}
    source_type = c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE
    info = c2pa.C2paSignerInfo("es256", keys.signing.chain, keys.signing.key, None)
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest) as builder:
        builder.set_intent(c2pa.C2paBuilderIntent.CREATE, source_type)
        builder.sign(signer, "image/png", source, signed)
    (tmp_path / "photo.png").write_bytes(signed.getvalue())
    found, _ = looked_at(tmp_path / "photo.png", keys)
    assert (found.state, found.generator, found.made) == ("ours", "A camera", "")


def test_without_a_key_a_sentence_says_so(tmp_path: Path, keys: Keys):
    path = made(tmp_path, "png")
    with pytest.raises(CannotSign, match="cannot be read"):
        sign(path, PLAIN, replace(keys, signing=None, trouble=UNREADABLE))


def test_a_certificate_that_c2pa_refuses_is_a_sentence(tmp_path: Path, keys: Keys):
    path = made(tmp_path, "png")
    leaf = keys.signing.chain[: keys.signing.chain.index(b"-----END CERTIFICATE-----") + 26]
    with pytest.raises(CannotSign) as failure:  # the root signs: an authority, which no signer may be
        sign(path, PLAIN, replace(keys, signing=replace(keys.signing, chain=keys.signing.root + leaf)))
    assert str(failure.value) == UNSIGNED and failure.value.__cause__


def test_a_time_stamp_that_cannot_be_had_is_said_and_the_file_is_signed(tmp_path: Path, keys: Keys):
    path = made(tmp_path, "png")
    notice = sign(path, PLAIN, replace(keys, timestamps="http://127.0.0.1:9/"))
    assert "without a time stamp" in notice
    assert verified(path, keys)["validation_state"] == "Trusted"


def test_credentials_that_cannot_be_carried_on_are_said_and_the_file_is_signed(tmp_path: Path, keys: Keys):
    part = picture_file(tmp_path / "part.png", photo())
    part.with_suffix(KEPT).write_bytes(b"what no archive looks like")
    path = made(tmp_path, "png")
    assert sign(path, replace(PLAIN, ingredients=(Ingredient(part, parent=True),)), keys) == NOT_CARRIED
    told = verified(path, keys)
    assert told["validation_state"] == "Trusted" and actions_of(told)[0]["action"] == "c2pa.opened"


@pytest.mark.parametrize("kind", ["png", "wav", "mp4", "jpg", "mp3"])
def test_no_change_of_a_signed_file_is_taken_for_the_file_or_breaks_the_reader(tmp_path: Path, keys: Keys, kind: str):
    path, rng = made(tmp_path, kind), np.random.default_rng(0)
    sign(path, PLAIN, keys)
    whole, ours = path.read_bytes(), (keys.signing.root.decode(), keys.signing.serial)
    plain = facts_of(io.BytesIO(whole), "", *ours)
    assert plain["state"] == "ours"
    for _ in range(40):
        broken = bytearray(whole)
        match rng.integers(3):
            case 0:
                broken[rng.integers(len(broken))] ^= 1 << int(rng.integers(8))
            case 1:
                del broken[rng.integers(len(broken)) :]
            case 2:
                start = rng.integers(len(broken))
                broken[start:start] = rng.bytes(int(rng.integers(1, 300)))
        facts = facts_of(io.BytesIO(bytes(broken)), "", *ours)
        assert facts["state"] != "ours" or facts == plain  # a bit of padding may change, not what is said


def test_bytes_that_only_begin_like_a_file_are_unreadable_not_a_crash(tmp_path: Path, keys: Keys):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500) + b"c2pa" * 100)
    assert looked_at(path, keys, keep=True) == (read(path.open("rb"), keys)[0], b"")
    assert looked_at(path, keys)[0].state == "unreadable"


def test_reading_that_takes_too_long_is_unreadable(tmp_path: Path, keys: Keys):
    path = made(tmp_path, "png")
    assert looked_at(path, keys, limits=replace(LIMITS, decode_seconds=0.01))[0].state == "unreadable"


def test_credentials_are_seen_across_the_border_of_two_blocks(tmp_path: Path):
    assert carries(io.BytesIO(bytes(2**20 - 2) + b"c2pa"))
    assert not carries(io.BytesIO(bytes(2**20 - 2) + b"c2p"))
    rng = np.random.default_rng(0)
    assert not carries(io.BytesIO(rng.bytes(100_000)))
