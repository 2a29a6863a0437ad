"""Which machines could form a cluster."""

from __future__ import annotations

from collections.abc import Collection

from tandem.coordinator.fleet.provider import NOT_CLUSTERED, Provider


def unclustered(providers: Collection[Provider], account: str, *, now: float) -> list[Provider]:
    """The account's machines that show a certificate, are alive, and are in no cluster yet.

    A machine is in one as soon as any member says so. `now` is in monotonic seconds.
    """
    beats = [provider.heartbeat for provider in providers if provider.heartbeat is not None]
    members = {node_id for beat in beats for node_id in beat.members}
    return [
        provider
        for provider in providers
        if provider.account == account
        and provider.node_id is not None
        and provider.node_id not in members
        and provider.role == NOT_CLUSTERED
        and now - provider.last_heard <= provider.stale_after_s
    ]
