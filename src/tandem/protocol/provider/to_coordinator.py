"""Messages that a provider sends. Unknown fields are ignored, so old and new ones coexist."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tandem.protocol.attestation import Evidence
from tandem.protocol.bounds import Count, LongBytes, Name, ShortBytes
from tandem.protocol.common import Hardware, ModelInfo, RequestId

_RequestId = Annotated[RequestId, msgspec.Meta(max_length=256)]
#: As a cluster role: none.
_NO_ROLE = msgspec.Raw(b"\xc0")


class Registration(msgspec.Struct, frozen=True):
    """Who a provider is and what it has. `name` is the operator's label for the machine.

    `certificate` is its node's (DER), empty for a machine that shows none; requests are sealed to
    `sealing_key`. `link_addresses` are where other machines reach it, HOST:PORT.
    """

    name: Name
    software: Name
    hardware: Hardware
    models: Annotated[list[ModelInfo], msgspec.Meta(max_length=64)]
    sealing_key: ShortBytes
    certificate: LongBytes = b""
    link_addresses: Annotated[list[Name], msgspec.Meta(max_length=16)] = []


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message on a connection. `registration` stays encoded: it is what is signed."""

    versions: Annotated[list[Count], msgspec.Meta(max_length=64)]
    join_token: Annotated[str, msgspec.Meta(max_length=4096)]
    registration: bytes


class Proof(msgspec.Struct, frozen=True, tag="proof"):
    """The answer to a challenge: evidence over `attestation.statement`."""

    evidence: Evidence


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat", omit_defaults=True):
    """Load as the scheduler sees it: sequences and KV blocks. `ready` is false while draining.

    `steps` counts what the engine has run: it stands still when the engine hangs. `cluster_role`
    is the rank in a cluster (`cluster_role`), absent outside of one. It stays encoded: what is no
    rank must reach the coordinator, which then sends nothing there. `members` are the node ids of
    the cluster. A cluster whose ranks add up without encryption says so. `device` is what computes
    now, worded as in `Hardware`; empty from a provider that does not say.
    """

    ready: bool
    running: Count
    waiting: Count
    free_blocks: Count
    total_blocks: Count
    block_tokens: Count = 16
    max_sequences: Count = 32
    steps: Count = 0
    cluster_role: msgspec.Raw = _NO_ROLE
    members: Annotated[list[Name], msgspec.Meta(max_length=256)] = []
    plaintext_collectives: bool = False
    #: What the provider has counted since its start, by name.
    counters: Annotated[dict[Name, Count], msgspec.Meta(max_length=256)] = {}
    device: Name = ""


def cluster_role(rank: int | None) -> msgspec.Raw:
    """A rank as a heartbeat has it; None for a machine in no cluster."""
    return _NO_ROLE if rank is None else msgspec.Raw(msgspec.msgpack.encode(rank))


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """The next sealed `AnswerPart` to a request."""

    request_id: _RequestId
    sealed: bytes


class Unreadable(msgspec.Struct, frozen=True, tag="unreadable"):
    """A request that did not open with this provider's key."""

    request_id: _RequestId


class Draining(msgspec.Struct, frozen=True, tag="draining"):
    """The provider stops: it takes nothing new and finishes what it has."""


ToCoordinator = Hello | Proof | Heartbeat | Reply | Unreadable | Draining
