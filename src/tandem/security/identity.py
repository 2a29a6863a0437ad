"""A machine's identity: an Ed25519 key and the certificate that it presents on links.

The node's id is the SHA-256 of its public key, so a certificate can be issued again for the same
identity, and a peer that presents another key is another node.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NewType

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from tandem.errors import ConfigurationError

NodeId = NewType("NodeId", str)

_KEY_FILE, _CERTIFICATE_FILE = "node-key.pem", "node-certificate.pem"
#: Certificates are trusted one by one, whatever a clock says; and no clock finds these out of date
#: (RFC 5280, 4.1.2.5: without an end).
VALID_FROM = datetime(2000, 1, 1, tzinfo=UTC)
VALID_UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class Identity(msgspec.Struct, frozen=True):
    """Who this machine is. The key stays in its file: TLS reads it from there."""

    node_id: NodeId
    certificate: str
    key_path: Path
    certificate_path: Path

    @property
    def certificate_der(self) -> bytes:
        return x509.load_pem_x509_certificate(self.certificate.encode()).public_bytes(Encoding.DER)


def load_or_create_identity(directory: Path) -> Identity:
    """The folder's identity, made on first use; the key is readable by its owner only.

    Raises ConfigurationError when a file is damaged or the two do not belong together.
    """
    key_path, certificate_path = directory / _KEY_FILE, directory / _CERTIFICATE_FILE
    if not key_path.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(key_path, _new_key())
    key = load_node_key(key_path)
    if not certificate_path.exists():
        certificate_path.write_text(issue_certificate(key))
    certificate = certificate_path.read_text()
    node_id = node_id_of(certificate)
    if node_id != _id_of_key(key):
        raise ConfigurationError(
            f"{certificate_path} does not belong to {key_path}: remove it, and a new one is made"
        )
    return Identity(node_id, certificate, key_path, certificate_path)


def issue_certificate(key: Ed25519PrivateKey) -> str:
    """A self-signed certificate (PEM) for the key, valid at any time."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _id_of_key(key)[:32])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, algorithm=None)
    )
    return certificate.public_bytes(Encoding.PEM).decode()


def node_id_of(certificate: str | bytes) -> NodeId:
    """The id of the node that a certificate, PEM text or DER bytes, belongs to.

    Raises ConfigurationError when it is no certificate.
    """
    try:
        parsed = (
            x509.load_pem_x509_certificate(certificate.encode())
            if isinstance(certificate, str)
            else x509.load_der_x509_certificate(certificate)
        )
        key = parsed.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"this is not a certificate: {error}") from error
    public = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return NodeId(hashlib.sha256(public).hexdigest())


def pem_of(certificate: bytes) -> str:
    """A DER certificate as PEM text. Raises ConfigurationError when it is none."""
    node_id_of(certificate)
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()


def _id_of_key(key: Ed25519PrivateKey) -> NodeId:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return NodeId(hashlib.sha256(public).hexdigest())


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def load_node_key(path: Path) -> Ed25519PrivateKey:
    """The private key of an identity. Raises ConfigurationError."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path} is not a private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} is not an Ed25519 key")
    return key


def write_private(path: Path, data: bytes) -> None:
    """A file that only its owner reads, complete from the moment it is there."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    draft.replace(path)
