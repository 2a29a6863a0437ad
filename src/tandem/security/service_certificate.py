"""A service's own certificate, and the pin by which its clients know it without any authority.

The pin is the SHA-256 of the public key, as a node's id is: it stays when the certificate is issued
again for other names, and no clock and no name takes part in the check.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tandem.errors import ConfigurationError
from tandem.security.identity import VALID_FROM, VALID_UNTIL, node_id_of, write_private

_KEY_FILE, _CERTIFICATE_FILE = "tls-key.pem", "tls-certificate.pem"
_PIN = re.compile(r"[0-9a-f]{64}")


class ServiceCertificate(msgspec.Struct, frozen=True):
    """Clients without a pin can trust the certificate's file."""

    certificate_path: Path
    key_path: Path
    pin: str


def load_or_create_service_certificate(directory: Path, names: Sequence[str]) -> ServiceCertificate:
    """The folder's certificate, for host names and addresses; made anew for the same key if these
    are others. The key is readable by its owner only.

    Raises ConfigurationError when a file is damaged.
    """
    key_path, certificate_path = directory / _KEY_FILE, directory / _CERTIFICATE_FILE
    if not key_path.exists():
        write_private(key_path, _new_key())
    key = _load_key(key_path)
    if not certificate_path.exists() or _names_of(certificate_path) != sorted(set(names)):
        write_private(certificate_path, _issue(key, sorted(set(names))))
    return ServiceCertificate(
        certificate_path, key_path, node_id_of(certificate_path.read_text("ascii"))
    )


def certificate_in(directory: Path) -> Path | None:
    """The folder's certificate, if one was made there."""
    path = directory / _CERTIFICATE_FILE
    return path if path.exists() else None


def pin_in(directory: Path) -> str | None:
    """The pin of the folder's certificate, if one was made there."""
    path = certificate_in(directory)
    return None if path is None else node_id_of(path.read_text("ascii"))


def is_pin(text: str) -> bool:
    return _PIN.fullmatch(text) is not None


class _Pinned:
    """Checks the pin between the handshake and the first byte that is sent."""

    context: ssl.SSLContext

    def do_handshake(self, *arguments: Any) -> None:  # noqa: ANN401 - of either base
        super().do_handshake(*arguments)  # type: ignore[misc]
        context = self.context
        assert isinstance(context, PinnedContext), "only it makes these"
        context.check(self.getpeercert(binary_form=True))  # type: ignore[attr-defined]


class _PinnedObject(_Pinned, ssl.SSLObject):
    pass


class _PinnedSocket(_Pinned, ssl.SSLSocket):
    pass


class PinnedContext(ssl.SSLContext):
    """Connects to the one server whose key has this pin. A handshake with another one raises
    ssl.SSLCertVerificationError.
    """

    sslobject_class = _PinnedObject
    sslsocket_class = _PinnedSocket
    pin: str

    def __new__(cls, pin: str) -> Self:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.pin = pin
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # `check` is the verification
        return context

    def check(self, certificate: bytes | None) -> None:
        """Raises ssl.SSLCertVerificationError unless the certificate (DER) is the pinned one's."""
        shown = "none" if certificate is None else node_id_of(certificate)
        if shown != self.pin:
            raise ssl.SSLCertVerificationError(
                ssl.SSL_ERROR_SSL,
                f"the service showed another key than the pinned one ({shown}, not"
                f" {self.pin}): ask its operator for the token or the address again",
            )


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is not a private key ({error}): remove it, and a new one is made"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{path} is no key of a service: remove it, and one is made")
    return key


def _issue(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> bytes:
    """Self-signed; an authority for itself, so that clients can trust the file as one."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tandem")])
    public = key.public_key()
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
        (x509.SubjectAlternativeName([_general_name(name) for name in names]), False),
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(path: Path) -> list[str]:
    """Raises ConfigurationError when the file is no certificate."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise ConfigurationError(f"{path} is no certificate: remove it, and one is made") from error
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted(str(name.value) for name in names)
