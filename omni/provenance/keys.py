"""The secrets of one playground: the key that signs its files, and the key of its watermark.

Both are made at the first start, in a folder that only their owner may read, or come from the environment:
``OMNI_SIGNING_PEM`` holds a certificate chain (leaf first) and the leaf's private key in PEM, as one has from a
certificate authority; ``OMNI_WATERMARK_KEY`` at least 16 characters that several servers may share. A key that is there
but cannot be used is never replaced: the playground goes on without it and says so.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

log = logging.getLogger(__name__)

FOLDER = "provenance"  # in the data folder
SIGNING, WATERMARK, TRUSTED = "signing.pem", "watermark.key", "trusted.pem"
SHORTEST = 16  # characters of a watermark key
LARGEST = 90_000  # bytes of certificates of others, which travel as an argument to the reader
VALID = timedelta(days=3650)
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}

UNREADABLE = "The signing key of this playground cannot be read, so this reply is marked but not signed."
UNUSABLE_MARK = "The watermark key of this playground cannot be read, so this reply is signed but not marked."
NEITHER = "The keys of this playground cannot be read, so this reply is neither signed nor marked."
FLEETING = "This playground cannot keep its keys, so it will not know this reply again after its next start."

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\s*", re.DOTALL)


@dataclass(frozen=True)
class Signing:
    """A certificate chain (PEM, leaf first), the leaf's private key (PEM, PKCS #8) and the algorithm of C2PA for it."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    algorithm: str

    @property
    def root(self) -> bytes:
        """The last certificate of the chain, PEM: whoever trusts it trusts this signer, and all others under it."""
        return [block[0] for block in _BLOCK.finditer(self.chain)][-1]

    @property
    def serial(self) -> str:
        """The serial number of the leaf, in decimal, as credentials tell it."""
        return str(x509.load_pem_x509_certificates(self.chain)[0].serial_number)


@dataclass(frozen=True)
class Keys:
    """What a playground signs and marks with. ``trouble`` is a sentence for a visitor, where something is amiss."""

    signing: Signing | None
    watermark: bytes | None = field(repr=False)
    trusted: bytes = field(default=b"", repr=False)  # certificates of others that the owner trusts, PEM
    timestamps: str = ""  # address of a time-stamp authority
    trouble: str = ""


def open_keys(folder: Path, timestamps: str = "", environment: Mapping[str, str] = os.environ) -> Keys:
    """The keys in the environment, else those in ``folder``, made where there are none. Never fails."""
    kept = _prepare(folder)
    signing, watermark = _signing(folder, environment), _watermark(folder, environment)
    trouble = {(True, True): "", (False, True): UNREADABLE, (True, False): UNUSABLE_MARK, (False, False): NEITHER}
    sentence = trouble[signing is not None, watermark is not None]
    given = "OMNI_SIGNING_PEM" in environment and "OMNI_WATERMARK_KEY" in environment
    return Keys(
        signing, watermark, _trusted(folder / TRUSTED), timestamps, sentence or ("" if kept or given else FLEETING)
    )


def _prepare(folder: Path) -> bool:
    """Make the folder, for its owner alone. Returns whether files can be kept in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f".{secrets.token_hex(8)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        complete = all((folder / name).is_file() for name in (SIGNING, WATERMARK))
        if not complete:
            log.warning("keys cannot be kept in %s: %s", folder, error)
        return complete
    return True


def _signing(folder: Path, environment: Mapping[str, str]) -> Signing | None:
    try:
        if given := environment.get("OMNI_SIGNING_PEM"):
            return signing_of(given.encode())
        return signing_of(_kept(folder / SIGNING, make_signing))
    except (OSError, ValueError, TypeError) as error:  # cryptography raises TypeError for an encrypted key
        log.error("files are not signed: %s: %s", _source(folder / SIGNING, "OMNI_SIGNING_PEM", environment), error)
        return None


def _watermark(folder: Path, environment: Mapping[str, str]) -> bytes | None:
    try:
        given = environment.get("OMNI_WATERMARK_KEY")
        key = given.encode() if given else _kept(folder / WATERMARK, lambda: secrets.token_hex(32).encode())
        if len(key := key.strip()) < SHORTEST:
            raise ValueError(f"a watermark key has at least {SHORTEST} characters")
        return key
    except (OSError, ValueError) as error:
        log.error("files are not marked: %s: %s", _source(folder / WATERMARK, "OMNI_WATERMARK_KEY", environment), error)
        return None


def _trusted(path: Path) -> bytes:
    """The certificates in a file, where there is one that can be used."""
    try:
        found = path.read_bytes() if path.exists() else b""
        if len(found) > LARGEST:
            raise ValueError(f"it holds more than {LARGEST:,} bytes")
        if found:
            x509.load_pem_x509_certificates(found)
    except (OSError, ValueError) as error:
        log.warning("the certificates in %s are not trusted: %s", path, error)
        return b""
    return found


def _source(path: Path, variable: str, environment: Mapping[str, str]) -> str:
    return variable if variable in environment else f"{path} (delete it to have a new one made at the next start)"


def _kept(path: Path, make) -> bytes:
    """The bytes of a file, which is made where it is missing, for its owner alone.

    Where it cannot be written, what was made is used as long as this process lasts.
    """
    if path.exists() or path.is_symlink():
        if path.stat().st_mode & 0o077:
            log.warning("%s could be read by others; it is closed to them now", path)
            path.chmod(0o600)
        return path.read_bytes()
    made = make()
    partial = path.with_name(f".{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(made)
        os.link(partial, path)  # unlike a renaming, it fails where another process was faster
    except FileExistsError:
        return path.read_bytes()
    except OSError:
        return made
    finally:
        partial.unlink(missing_ok=True) if partial.parent.is_dir() else None
    log.info("made %s", path)
    return made


def signing_of(pem: bytes) -> Signing:
    """A chain and a private key from one PEM text. Raises ValueError or TypeError where they are no such thing."""
    blocks = [(found[1], found[0]) for found in _BLOCK.finditer(pem)]
    chain = b"".join(block for kind, block in blocks if kind == b"CERTIFICATE")
    keys = [block for kind, block in blocks if kind.endswith(b"PRIVATE KEY")]
    if len(blocks) - len(keys) < 2 or len(keys) != 1:
        raise ValueError("a certificate, those that vouch for it, and one private key are needed, in PEM")
    key = serialization.load_pem_private_key(keys[0], password=None)
    leaf = x509.load_pem_x509_certificates(chain)[0]
    public = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if leaf.public_key().public_bytes(*public) != key.public_key().public_bytes(*public):
        raise ValueError("the private key does not belong to the first certificate")
    return Signing(chain, _pkcs8(key), _algorithm(key))


def _algorithm(key) -> str:
    match key:
        case ec.EllipticCurvePrivateKey(curve=curve) if curve.name in CURVES:
            return CURVES[curve.name]
        case rsa.RSAPrivateKey():
            return "ps256"
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
    raise ValueError("keys of this kind cannot sign; P-256, P-384, P-521, Ed25519 and RSA keys can")


def make_signing() -> bytes:
    """A new root, a new key and its certificate, as one PEM text; the root's key is forgotten at once."""
    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = secrets.token_hex(4)  # tells two playgrounds apart
    issuer, subject = _name(f"Omni Playground {name} root"), _name(f"Omni Playground {name}")
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key())
    of_root = _certificate(issuer, root.public_key(), issuer, signs_others=True).sign(root, hashes.SHA256())
    of_leaf = _certificate(subject, leaf.public_key(), issuer, signs_others=False)
    of_leaf = of_leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    of_leaf = of_leaf.add_extension(authority, critical=False).sign(root, hashes.SHA256())
    chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (of_leaf, of_root))
    return chain + _pkcs8(leaf)


def _pkcs8(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(common: str) -> x509.Name:
    words = {NameOID.ORGANIZATION_NAME: "Omni Playground", NameOID.COMMON_NAME: common}
    return x509.Name([x509.NameAttribute(kind, word) for kind, word in words.items()])


def _certificate(subject: x509.Name, key, issuer: x509.Name, signs_others: bool) -> x509.CertificateBuilder:
    """What C2PA asks of a certificate: its use is told, critically, and it is no authority unless it signs others."""
    now = datetime.now(UTC)
    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
              "decipher_only")  # fmt: skip
    usage = dict.fromkeys(unused, False)
    usage |= {"digital_signature": not signs_others, "key_cert_sign": signs_others, "crl_sign": signs_others}
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(signs_others, 0 if signs_others else None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
