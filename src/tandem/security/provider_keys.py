"""A provider's keys, as its end of the conversation uses them: see `protocol.ProviderSide`."""

from __future__ import annotations

from collections.abc import Callable

from tandem.protocol import Evidence, Request, RequestId
from tandem.security.attestation import Prover
from tandem.security.sealing import ReplyChannel, SealingKey, request_context


class ProviderKeys:
    """`prover` None is for a machine that shows no certificate: it proves nothing."""

    def __init__(self, sealing: SealingKey, prover: Prover | None = None) -> None:
        self._sealing = sealing
        self._prover = prover

    @property
    def public(self) -> bytes:
        """What requests are sealed to."""
        return self._sealing.public

    def prove(self, statement: bytes) -> Evidence:
        return Evidence() if self._prover is None else self._prover.prove(statement)

    def open_ahead(self, sealed_key: bytes) -> None:
        self._sealing.open_ahead(sealed_key)

    def open(self, request: Request, connection: bytes) -> bytes:
        """Raises ProtocolError for a request that was altered, or sealed for another place."""
        context = request_context(connection, request.number, request.request_id)
        return self._sealing.open(request.sealed, context)

    def replies(self, key: bytes, request_id: RequestId) -> Callable[[bytes], bytes]:
        """Raises ProtocolError for a key of another length."""
        return ReplyChannel(key, request_id).seal
