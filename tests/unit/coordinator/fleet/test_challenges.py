"""The challenges of one connection, and the trust that their answers earn."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.devices import ENCODED, NODE_KEY, REGISTRATION, Authority

from tandem.coordinator.fleet.challenges import MAX_STRIKES, Challenges
from tandem.errors import AttestationRefused
from tandem.protocol import Evidence, Trust, encode, statement
from tandem.security import ChainVerifier, DeviceKey, Prover

MAKER = Authority()
VERIFIER = ChainVerifier([MAKER.root])


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


def test_a_challenge_without_an_answer_is_a_strike() -> None:
    asked = challenges()
    nonces = {asked.issue() for _ in range(MAX_STRIKES)}
    assert len(nonces) == MAX_STRIKES, "a nonce is never used twice"
    assert asked.pending
    with pytest.raises(AttestationRefused, match="not answered"):
        asked.issue()


def test_where_no_makers_are_known_a_device_is_a_key_of_its_own() -> None:
    asked = Challenges(REGISTRATION, ENCODED, [])
    attested = asked.check(answer(asked, Prover(NODE_KEY, MAKER.device())))
    assert attested.trust is Trust.SELF_SIGNED
    assert attested.refusal is not None
    assert "--attestation-roots" in attested.refusal
