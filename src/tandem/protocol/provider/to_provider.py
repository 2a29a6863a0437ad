"""Messages that the coordinator sends to a provider."""

from __future__ import annotations

import msgspec

from tandem.protocol.common import ErrorInfo, ModelName, ProviderId, RequestId


class Challenge(msgspec.Struct, frozen=True, tag="challenge"):
    """Prove who you are, now: see `Proof`."""

    nonce: bytes


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    version: int
    provider_id: ProviderId
    heartbeat_interval_s: float


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    error: ErrorInfo


class Request(msgspec.Struct, frozen=True, tag="request"):
    """Sealed `Work`, the `number`th on this connection.

    `window` is how many chunks of the answer may be under way.
    """

    request_id: RequestId
    number: int
    model: ModelName
    deadline_s: float
    window: int
    sealed: bytes


class NextKey(msgspec.Struct, frozen=True, tag="next_key"):
    """How the next request will begin: opening it now saves time then. A hint, no more."""

    sealed_key: bytes


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    """Flow control: `chunks` more may be sent for this request."""

    request_id: RequestId
    chunks: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    request_id: RequestId


ToProvider = Challenge | Welcome | Refused | Request | NextKey | Grant | Cancel
