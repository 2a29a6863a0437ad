"""Proofs: made with real keys and a test CA, checked as the coordinator checks them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tandem.coordinator.fleet.challenges import MAX_STRIKES, Challenges
from tandem.errors import AttestationRefused, ConfigurationError
from tandem.protocol import Evidence, Hardware, Registration, Trust, encode, statement
from tandem.security import (
    ChainVerifier,
    DeviceKey,
    Prover,
    SoftwareKeyVerifier,
    issue_certificate,
    load_roots,
)

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
SIGNED = statement(b"n" * 32, ENCODED)


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


MAKER = Authority()
VERIFIER = ChainVerifier([MAKER.root])


def evidence(device: DeviceKey, signed: bytes = SIGNED) -> Evidence:
    return Prover(NODE_KEY, device).prove(signed)


def test_a_machine_proves_its_own_key() -> None:
    shown = Prover(NODE_KEY).prove(SIGNED)
    SoftwareKeyVerifier().verify(SIGNED, CERTIFICATE, shown)


@pytest.mark.parametrize(
    "shown",
    [Evidence(), Evidence(b"x" * 64), Prover(Ed25519PrivateKey.generate()).prove(SIGNED)],
    ids=["nothing", "noise", "another key"],
)
def test_another_signature_proves_nothing(shown: Evidence) -> None:
    with pytest.raises(AttestationRefused):
        SoftwareKeyVerifier().verify(SIGNED, CERTIFICATE, shown)


@pytest.mark.parametrize("certificate", [b"", b"x", MAKER.root.public_bytes(Encoding.DER)])
def test_a_certificate_of_another_kind_is_refused(certificate: bytes) -> None:
    with pytest.raises(AttestationRefused):
        SoftwareKeyVerifier().verify(SIGNED, certificate, Prover(NODE_KEY).prove(SIGNED))


def test_a_device_of_the_maker_is_hardware() -> None:
    VERIFIER.verify(SIGNED, CERTIFICATE, evidence(MAKER.device()))


def _stolen() -> Evidence:
    """The chain of one device with the signature of another."""
    good, other = MAKER.device("D-1"), MAKER.device("D-2")
    return evidence(DeviceKey(other.key, good.chain, "D-1"))


def _renamed() -> Evidence:
    device = MAKER.device("D-1")
    return evidence(DeviceKey(device.key, device.chain, "D-9"))


@pytest.mark.parametrize(
    "shown",
    [
        evidence(MAKER.device(begins=NOW - 3 * DAY, ends=NOW - DAY)),
        evidence(MAKER.device(begins=NOW + DAY, ends=NOW + 3 * DAY)),
        evidence(Authority().device()),
        evidence(Authority("Another Root").device()),
        _stolen(),
        _renamed(),
        evidence(MAKER.device(), statement(b"m" * 32, ENCODED)),
        evidence(MAKER.device(), statement(b"n" * 32, ENCODED + b"x")),
        msgspec.structs.replace(evidence(MAKER.device()), hardware=None),
    ],
    ids=[
        "expired",
        "not yet valid",
        "a root of the same name",
        "wrong root",
        "wrong device",
        "wrong serial number",
        "replayed nonce",
        "another registration",
        "no chain",
    ],
)
def test_what_is_no_proof_of_hardware_is_refused(shown: Evidence) -> None:
    with pytest.raises(AttestationRefused):
        VERIFIER.verify(SIGNED, CERTIFICATE, shown)


@pytest.mark.parametrize("chain", [[], [b"x"], [b"x"] * 9])
def test_a_chain_of_nonsense_is_refused(chain: list[bytes]) -> None:
    good = evidence(MAKER.device())
    assert good.hardware is not None
    bad = msgspec.structs.replace(good.hardware, chain=chain)
    with pytest.raises(AttestationRefused):
        VERIFIER.verify(SIGNED, CERTIFICATE, msgspec.structs.replace(good, hardware=bad))


def test_keys_and_roots_are_read_from_files(tmp_path: Path) -> None:
    device = MAKER.device()
    key, chain, roots = (tmp_path / name for name in ("key.pem", "chain.pem", "roots.pem"))
    pem = device.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(pem)
    leaf = x509.load_der_x509_certificate(device.chain[0])
    chain.write_bytes(leaf.public_bytes(Encoding.PEM))
    roots.write_bytes(MAKER.root.public_bytes(Encoding.PEM))
    loaded = DeviceKey.load(key, chain)
    assert loaded.device_id == "D-1"
    ChainVerifier(load_roots(roots)).verify(SIGNED, CERTIFICATE, evidence(loaded))
    chain.write_bytes(MAKER.root.public_bytes(Encoding.PEM))
    for bad_key, bad_chain in ((key, chain), (roots, roots), (tmp_path / "none", chain)):
        with pytest.raises(ConfigurationError):
            DeviceKey.load(bad_key, bad_chain)
    with pytest.raises(ConfigurationError):
        load_roots(key)


def challenges() -> Challenges:
    return Challenges(REGISTRATION, ENCODED, [VERIFIER])


def answer(asked: Challenges, prover: Prover) -> Evidence:
    return prover.prove(statement(asked.issue(), ENCODED))


@pytest.mark.parametrize(
    ("device", "trust"),
    [
        (None, Trust.SELF_SIGNED),
        (MAKER.device(), Trust.HARDWARE),
        (Authority().device(), Trust.SELF_SIGNED),
    ],
    ids=["own key", "device", "device of nobody known"],
)
def test_trust_is_what_was_proved(device: DeviceKey | None, trust: Trust) -> None:
    """C10."""
    asked = challenges()
    attested = asked.check(answer(asked, Prover(NODE_KEY, device)))
    assert attested.trust is trust
    assert (attested.refusal is not None) == (device is not None and trust is Trust.SELF_SIGNED)


def test_a_machine_without_a_certificate_is_trusted_with_nothing() -> None:
    anonymous = msgspec.structs.replace(REGISTRATION, certificate=b"")
    asked = Challenges(anonymous, encode(anonymous), [])
    asked.issue()
    assert asked.check(Evidence()).trust is Trust.NONE


def test_an_answer_counts_once_and_for_its_own_challenge() -> None:
    asked = challenges()
    first = answer(asked, Prover(NODE_KEY))
    asked.check(first)
    with pytest.raises(AttestationRefused):
        asked.check(first)
    asked.issue()
    with pytest.raises(AttestationRefused):
        asked.check(first)


def test_the_third_strike_in_a_row_is_the_end() -> None:
    asked = challenges()
    for _ in range(MAX_STRIKES - 1):
        asked.strike("silent")
    asked.check(answer(asked, Prover(NODE_KEY)))
    for _ in range(MAX_STRIKES - 1):
        asked.strike("silent")
    with pytest.raises(AttestationRefused):
        asked.strike("silent")
