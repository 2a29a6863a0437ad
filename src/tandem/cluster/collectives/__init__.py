"""Sums over the ranks of a session: one module a kind, and one row of this table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tandem.cluster.collectives.rendezvous import Rendezvous
from tandem.cluster.collectives.sealed import SealedCommunicator
from tandem.engine import Communicator
from tandem.errors import ProtocolError
from tandem.protocol.cluster import Collectives

__all__ = ["COLLECTIVES", "Rendezvous", "SealedCommunicator"]

#: From the session's sealed channels, and where the ranks meet if that is needed.
_Open = Callable[[SealedCommunicator[Any], Rendezvous | None], Communicator[Any]]


def _sealed(links: SealedCommunicator[Any], rendezvous: Rendezvous | None) -> Communicator[Any]:  # noqa: ARG001 - the table's signature
    return links


def _plaintext(kind: Collectives) -> _Open:
    def open_group(
        links: SealedCommunicator[Any], rendezvous: Rendezvous | None
    ) -> Communicator[Any]:
        from tandem.cluster.collectives.torch_collectives import TorchCommunicator

        if rendezvous is None:
            raise ProtocolError(f"the session names no port at which the ranks of {kind} meet")
        return TorchCommunicator(links, kind, rendezvous)

    return open_group


COLLECTIVES: dict[Collectives, _Open] = {
    Collectives.SEALED: _sealed,
    Collectives.GLOO: _plaintext(Collectives.GLOO),
    Collectives.NCCL: _plaintext(Collectives.NCCL),
}
