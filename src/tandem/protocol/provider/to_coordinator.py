"""Messages that a provider sends. Unknown fields are ignored, so old and new ones coexist."""

from __future__ import annotations

from typing import Any

import msgspec

from tandem.protocol.attestation import Evidence
from tandem.protocol.common import Hardware, ModelInfo, RequestId


class Registration(msgspec.Struct, frozen=True):
    """Who a provider is and what it has. `name` is the operator's label for the machine.

    `certificate` is its node's (DER), empty for a machine that shows none; requests are sealed to
    `sealing_key`. `link_addresses` are where other machines reach it, HOST:PORT.
    """

    name: str
    software: str
    hardware: Hardware
    models: list[ModelInfo]
    sealing_key: bytes
    certificate: bytes = b""
    link_addresses: list[str] = []


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message on a connection. `registration` stays encoded: it is what is signed."""

    versions: list[int]
    join_token: str
    registration: bytes


class Proof(msgspec.Struct, frozen=True, tag="proof"):
    """The answer to a challenge: evidence over `attestation.statement`."""

    evidence: Evidence


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat", omit_defaults=True):
    """Load as the scheduler sees it: sequences and KV blocks. `ready` is false while draining.

    `steps` counts what the engine has run: it stands still when the engine hangs. `cluster_role`
    is the rank in a cluster, absent outside of one. It is decoded as it comes: what is no rank
    must reach the coordinator, which then sends nothing there. `members` are the node ids of the
    cluster. A cluster whose ranks add up without encryption says so. `device` is what computes now,
    worded as in `Hardware`; empty from a provider that does not say.
    """

    ready: bool
    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    block_tokens: int = 16
    max_sequences: int = 32
    steps: int = 0
    cluster_role: Any = None
    members: list[str] = []
    plaintext_collectives: bool = False
    #: What the provider has counted since its start, by name.
    counters: dict[str, int] = {}
    device: str = ""


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """The next sealed `AnswerPart` to a request."""

    request_id: RequestId
    sealed: bytes


class Unreadable(msgspec.Struct, frozen=True, tag="unreadable"):
    """A request that did not open with this provider's key."""

    request_id: RequestId


class Draining(msgspec.Struct, frozen=True, tag="draining"):
    """The provider stops: it takes nothing new and finishes what it has."""


ToCoordinator = Hello | Proof | Heartbeat | Reply | Unreadable | Draining
