"""How the API tells of the machines behind the service: bodies that server and clients share."""

from __future__ import annotations

import msgspec

from tandem.protocol.attestation import Trust
from tandem.protocol.common import Hardware


class _Provider(msgspec.Struct, frozen=True, kw_only=True):
    """What every list tells. `in_flight` is the coordinator's count; the rest is what it has said.

    `device` is worded as in `Hardware`; empty from a coordinator that does not tell it.
    """

    id: str
    name: str
    models: list[str]
    ready: bool
    draining: bool
    in_flight: int
    running: int
    waiting: int
    cluster_role: int | None
    device: str = ""


class ProviderStatus(_Provider, frozen=True, kw_only=True):
    """One provider of `/v1/status`; KV blocks are the last heartbeat's."""

    free_blocks: int
    total_blocks: int
    plaintext_collectives: bool


class ProviderStatuses(msgspec.Struct, frozen=True):
    """`GET /v1/status`. The coordinator's longest stop is that of the last minute."""

    providers: list[ProviderStatus]
    longest_stop_s: float = 0.0


class Machine(_Provider, frozen=True, kw_only=True):
    """One provider of `/v1/providers`, which operators see, drain and resume."""

    account: str = ""
    software: str
    node_id: str | None
    trust: Trust
    hardware: Hardware
    set_aside: bool
    cluster_members: list[str]


class Machines(msgspec.Struct, frozen=True):
    """`GET /v1/providers`."""

    data: list[Machine]
    object: str = "list"


class ClusterPeer(msgspec.Struct, frozen=True):
    """A machine of the account to pair with; `certificate` is its node's (DER; base64 in JSON)."""

    node_id: str
    name: str
    certificate: bytes
    link_addresses: list[str]
    trust: Trust = Trust.NONE


class ClusterPeers(msgspec.Struct, frozen=True):
    """`GET /v1/cluster/peers`."""

    data: list[ClusterPeer]
    object: str = "list"
