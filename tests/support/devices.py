"""A machine with a certificate, and makers of devices that vouch for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tandem.protocol import Hardware, Registration, encode
from tandem.security import DeviceKey, issue_certificate

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
NODE_KEY = Ed25519PrivateKey.generate()
CERTIFICATE = x509.load_pem_x509_certificate(issue_certificate(NODE_KEY).encode()).public_bytes(
    Encoding.DER
)
REGISTRATION = Registration(
    "box", "test", Hardware("h", "os", "cpu", 1, 1), [], b"sealing", CERTIFICATE
)
ENCODED = encode(REGISTRATION)


@dataclass
class Authority:
    """A maker of devices: a root, and the certificates that it issues."""

    name: str = "Maker Root"

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.root = self.issue(self.key, {NameOID.COMMON_NAME: self.name}, ca=True)

    def issue(
        self,
        key: ec.EllipticCurvePrivateKey,
        subject: dict[x509.ObjectIdentifier, str],
        *,
        ca: bool = False,
        begins: datetime = NOW - DAY,
        ends: datetime = NOW + DAY,
    ) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject.items()])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), True
            )
        )
        return builder.sign(self.key, SHA256())

    def device(
        self, serial: str = "D-1", *, begins: datetime = NOW - DAY, ends: datetime = NOW + DAY
    ) -> DeviceKey:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.issue(key, {NameOID.SERIAL_NUMBER: serial}, begins=begins, ends=ends)
        return DeviceKey(key, [leaf.public_bytes(Encoding.DER)], serial)
