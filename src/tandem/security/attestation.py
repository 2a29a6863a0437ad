"""Proof of who a machine is: made by it, checked by verifiers that the coordinator holds.

A proof is a signature over a fresh nonce and the registration, so it can neither be kept for later
nor moved to another machine. What a level means:

    self_signed   the machine holds the private key of its certificate
    hardware      also, a device key that its maker certified signed the same statement
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from tandem.errors import AttestationRefused, ConfigurationError
from tandem.protocol import ChainEvidence, Evidence, Trust

_MAX_CHAIN = 8


class AttestationVerifier(Protocol):
    """Checks one kind of evidence. `level` is what a machine that passes has reached."""

    level: Trust

    def verify(self, statement: bytes, certificate: bytes, evidence: Evidence) -> None:
        """Raises AttestationRefused with the reason."""


class SoftwareKeyVerifier:
    """The machine's own Ed25519 key, the one of its node certificate (DER)."""

    level = Trust.SELF_SIGNED

    def verify(self, statement: bytes, certificate: bytes, evidence: Evidence) -> None:
        try:
            key = x509.load_der_x509_certificate(certificate).public_key()
        except ValueError as error:
            raise AttestationRefused(f"the registration's certificate is none: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise AttestationRefused("the registration's certificate is not of an Ed25519 key")
        try:
            key.verify(evidence.signature, statement)
        except InvalidSignature:
            raise AttestationRefused("the signature is not of this certificate's key") from None


class ChainVerifier:
    """A device certificate that chains to one of the operator's roots, in force now.

    The device's id is the serial number in the leaf's subject.
    """

    level = Trust.HARDWARE

    def __init__(self, roots: list[x509.Certificate], *, now: datetime | None = None) -> None:
        self._store = Store(roots)
        self._now = now

    def verify(self, statement: bytes, certificate: bytes, evidence: Evidence) -> None:  # noqa: ARG002 - the statement names the certificate
        shown = evidence.hardware
        if shown is None or not 0 < len(shown.chain) <= _MAX_CHAIN:
            raise AttestationRefused(f"a device chain has 1 to {_MAX_CHAIN} certificates")
        leaf, *others = _parsed(shown.chain)
        verifier = (
            PolicyBuilder()
            .store(self._store)
            .time(self._now or datetime.now(UTC))
            .extension_policies(
                ca_policy=ExtensionPolicy.webpki_defaults_ca(),
                ee_policy=ExtensionPolicy.permit_all(),
            )
            .build_client_verifier()
        )
        try:
            verifier.verify(leaf, others)
        except VerificationError as error:
            raise AttestationRefused(f"the device's chain does not hold: {error}") from error
        named = [str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
        if named != [shown.device_id]:
            raise AttestationRefused("the device's certificate is of another device")
        _check_device_signature(leaf, shown.signature, statement)


class DeviceKey(msgspec.Struct, frozen=True):
    """A device key and its chain, from PEM files: the software stand-in for a secure element."""

    key: ec.EllipticCurvePrivateKey
    chain: list[bytes]
    device_id: str

    @classmethod
    def load(cls, key_path: Path, chain_path: Path) -> DeviceKey:
        """Raises ConfigurationError."""
        try:
            key = load_pem_private_key(key_path.read_bytes(), password=None)
            chain = x509.load_pem_x509_certificates(chain_path.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(f"the device attestation cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigurationError(f"{key_path} is not an elliptic curve key")
        serial = chain[0].subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
        if not serial:
            raise ConfigurationError(f"{chain_path}: the first certificate names no serial number")
        der = [certificate.public_bytes(Encoding.DER) for certificate in chain]
        return cls(key, der, str(serial[0].value))

    def attest(self, statement: bytes) -> ChainEvidence:
        signature = self.key.sign(statement, ec.ECDSA(hashes.SHA256()))
        return ChainEvidence(self.chain, self.device_id, signature)


class Prover:
    """The provider's side: signs statements with the node's key, and the device's if it has one."""

    def __init__(self, node_key: Ed25519PrivateKey, device: DeviceKey | None = None) -> None:
        self._node_key = node_key
        self._device = device

    def prove(self, statement: bytes) -> Evidence:
        hardware = None if self._device is None else self._device.attest(statement)
        return Evidence(self._node_key.sign(statement), hardware)


def load_roots(path: Path) -> list[x509.Certificate]:
    """The root certificates of a PEM file. Raises ConfigurationError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the attestation roots cannot be read: {error}") from error


def _parsed(chain: list[bytes]) -> list[x509.Certificate]:
    try:
        return [x509.load_der_x509_certificate(certificate) for certificate in chain]
    except ValueError as error:
        raise AttestationRefused(f"that is no certificate in the device's chain: {error}") from None


def _check_device_signature(leaf: x509.Certificate, signature: bytes, statement: bytes) -> None:
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise AttestationRefused("a device key is an elliptic curve key")
    try:
        key.verify(signature, statement, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise AttestationRefused("the device did not sign this statement") from None
