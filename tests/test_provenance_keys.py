"""The keys of a playground: made once, for their owner alone, never replaced, and never in the way of an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from omni.provenance.keys import (
    FLEETING,
    NEITHER,
    SIGNING,
    TRUSTED,
    UNREADABLE,
    UNUSABLE_MARK,
    WATERMARK,
    make_signing,
    open_keys,
    signing_of,
)

NONE: dict[str, str] = {}


def test_keys_are_made_once_for_their_owner_alone(tmp_path: Path):
    first = open_keys(tmp_path / "keys", environment=NONE)
    assert [oct(path.stat().st_mode & 0o777) for path in sorted((tmp_path / "keys").iterdir())] == ["0o600", "0o600"]
    assert oct((tmp_path / "keys").stat().st_mode & 0o777) == "0o700"
    assert open_keys(tmp_path / "keys", environment=NONE) == first and first.trouble == ""


def test_two_playgrounds_have_different_keys(tmp_path: Path):
    one, other = (open_keys(tmp_path / name, environment=NONE) for name in "ab")
    assert one.signing.serial != other.signing.serial and one.watermark != other.watermark


def test_secrets_are_not_shown(keys):
    assert "PRIVATE" not in repr(keys) and keys.watermark.decode() not in repr(keys)


def test_a_key_that_others_could_read_is_closed(tmp_path: Path):
    first = open_keys(tmp_path, environment=NONE)
    (tmp_path / SIGNING).chmod(0o644)
    assert open_keys(tmp_path, environment=NONE) == first
    assert (tmp_path / SIGNING).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("damaged", "sentence"), [((SIGNING,), UNREADABLE), ((WATERMARK,), UNUSABLE_MARK), ((SIGNING, WATERMARK), NEITHER)]
)
def test_a_damaged_key_is_said_and_never_replaced(tmp_path: Path, damaged: tuple[str, ...], sentence: str):
    open_keys(tmp_path, environment=NONE)
    for name in damaged:
        (tmp_path / name).write_bytes(b"junk")
    keys = open_keys(tmp_path, environment=NONE)
    assert keys.trouble == sentence
    assert (keys.signing is None, keys.watermark is None) == (SIGNING in damaged, WATERMARK in damaged)
    assert all((tmp_path / name).read_bytes() == b"junk" for name in damaged)


def test_a_key_that_cannot_be_opened_is_said(tmp_path: Path):
    open_keys(tmp_path, environment=NONE)
    (tmp_path / SIGNING).unlink()
    (tmp_path / SIGNING).mkdir()  # what even root cannot read as a file
    assert open_keys(tmp_path, environment=NONE).trouble == UNREADABLE


def test_where_nothing_can_be_written_keys_last_as_long_as_the_process(tmp_path: Path):
    (tmp_path / "file").touch()  # a folder cannot stand where a file does
    keys = open_keys(tmp_path / "file", environment=NONE)
    assert keys.signing and keys.watermark and keys.trouble == FLEETING


def test_a_host_brings_its_own(tmp_path: Path):
    pem = make_signing().decode()
    keys = open_keys(tmp_path, environment={"OMNI_SIGNING_PEM": pem, "OMNI_WATERMARK_KEY": "shared by ten servers"})
    assert keys.signing == signing_of(pem.encode()) and keys.watermark == b"shared by ten servers"
    assert list(tmp_path.iterdir()) == [] and keys.trouble == ""


def test_a_watermark_key_that_can_be_guessed_is_refused(tmp_path: Path):
    assert open_keys(tmp_path, environment={"OMNI_WATERMARK_KEY": "secret"}).trouble == UNUSABLE_MARK


def test_certificates_of_others_are_trusted_where_the_owner_says_so(tmp_path: Path):
    other = signing_of(make_signing())
    tmp_path.joinpath(TRUSTED).write_bytes(other.root)
    keys = open_keys(tmp_path, environment=NONE)
    assert keys.trusted == other.root
    for useless in (b"junk", other.root * 200):
        tmp_path.joinpath(TRUSTED).write_bytes(useless)
        assert open_keys(tmp_path, environment=NONE) == replace(keys, trusted=b"")


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "es256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "es384"),
        (ed25519.Ed25519PrivateKey.generate, "ed25519"),
        (lambda: rsa.generate_private_key(65537, 2048), "ps256"),
    ],
)
def test_the_algorithm_follows_from_the_key(make, algorithm: str):
    key = make()
    assert signing_of(chain_for(key) + pem_of(key)).algorithm == algorithm


def test_a_key_of_another_certificate_is_refused():
    mine, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    with pytest.raises(ValueError, match="does not belong"):
        signing_of(chain_for(mine) + pem_of(other))
    with pytest.raises(ValueError, match="one private key"):
        signing_of(certificate_for(mine) + pem_of(mine))  # nobody would vouch for it


def pem_of(key) -> bytes:
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, *plain)


def chain_for(key) -> bytes:
    """A certificate for the key, and some other."""
    return certificate_for(key) + certificate_for(ec.generate_private_key(ec.SECP256R1()))


def certificate_for(key) -> bytes:
    """A certificate for the key, by a root that nobody knows."""
    issued = x509.load_pem_x509_certificate(make_signing())
    root = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateBuilder(issued.issuer, issued.subject, key.public_key(), 7)
    made = made.not_valid_before(issued.not_valid_before_utc).not_valid_after(issued.not_valid_after_utc)
    return made.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
