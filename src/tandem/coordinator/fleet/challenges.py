"""Who a provider is: its proofs, on connecting and from time to time, and the trust they earn."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec
import structlog

from tandem.errors import AttestationRefused
from tandem.protocol import NONCE_BYTES, Evidence, Registration, Trust, statement
from tandem.security import AttestationVerifier, SoftwareKeyVerifier

log = structlog.get_logger(__name__)

MAX_STRIKES = 3


class Attested(msgspec.Struct, frozen=True):
    """The newest proof of a provider, and what it was worth: enough for anybody to check it.

    `refusal` says why a device's chain did not count.
    """

    registration: bytes
    nonce: bytes
    evidence: Evidence
    trust: Trust
    refusal: str | None = None


class Challenges:
    """The challenges of one connection. Nonces are never used twice."""

    def __init__(
        self,
        registration: Registration,
        encoded: bytes,
        hardware: Sequence[AttestationVerifier],
    ) -> None:
        self.strikes = 0
        self._registration = registration
        self._encoded = encoded
        self._software = SoftwareKeyVerifier()
        self._hardware = hardware
        self._nonce: bytes | None = None

    @property
    def pending(self) -> bool:
        return self._nonce is not None

    def issue(self) -> bytes:
        """A new nonce; one that was not answered is a strike. Raises AttestationRefused."""
        if self._nonce is not None:
            self.strike("a challenge was not answered")
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        return self._nonce

    def check(self, evidence: Evidence) -> Attested:
        """The worth of an answer to the nonce under way.

        Raises AttestationRefused when it proves nothing: on connecting that is the end.
        """
        nonce, self._nonce = self._nonce, None
        if nonce is None:
            raise AttestationRefused("a proof came that nobody has asked for")
        attested = self._worth(nonce, evidence)
        self.strikes = 0
        return attested

    def strike(self, reason: str) -> None:
        """Counts a failure. Raises AttestationRefused at the third in a row."""
        self._nonce = None
        self.strikes += 1
        log.warning("challenge_failed", name=self._registration.name, reason=reason)
        if self.strikes >= MAX_STRIKES:
            raise AttestationRefused(f"{self.strikes} challenges failed in a row: {reason}")

    def _worth(self, nonce: bytes, evidence: Evidence) -> Attested:
        certificate = self._registration.certificate
        if not certificate:
            return Attested(self._encoded, nonce, evidence, Trust.NONE)
        signed = statement(nonce, self._encoded)
        self._software.verify(signed, certificate, evidence)
        if evidence.hardware is None:
            return Attested(self._encoded, nonce, evidence, Trust.SELF_SIGNED)
        refusal = "no roots are configured: see --attestation-roots"
        for verifier in self._hardware:
            try:
                verifier.verify(signed, certificate, evidence)
            except AttestationRefused as error:
                refusal = error.message
            else:
                return Attested(self._encoded, nonce, evidence, verifier.level)
        log.warning("hardware_not_attested", name=self._registration.name, reason=refusal)
        return Attested(self._encoded, nonce, evidence, Trust.SELF_SIGNED, refusal)
