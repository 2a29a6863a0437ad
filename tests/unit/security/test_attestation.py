"""Proofs: made with real keys and a test CA, checked as the coordinator checks them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.support.devices import CERTIFICATE, DAY, ENCODED, NODE_KEY, NOW, Authority

from tandem.errors import AttestationRefused, ConfigurationError
from tandem.protocol import Evidence, statement
from tandem.security import ChainVerifier, DeviceKey, Prover, SoftwareKeyVerifier, load_roots

SIGNED = statement(b"n" * 32, ENCODED)
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
