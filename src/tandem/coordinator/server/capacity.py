"""How many connections there may be, and of whom. Numbers and their division; no sockets."""

from __future__ import annotations

import msgspec

#: Databases, logs, pipes, the event loop's own: descriptors that are no connection.
_FILES = 128
#: A stranger may hold a header of 64 KiB in up to 256 parts: 2,048 of them stay below 300 MB.
_MAX_STRANGERS = 2048
_MAX_CLIENTS = 16384


class Capacity(msgspec.Struct, frozen=True):
    """All connections. What is left between `clients` and `connections` is the providers'."""

    connections: int
    clients: int
    #: Who has shown no valid key yet, in all and from one address.
    strangers: int
    strangers_an_address: int

    @classmethod
    def of_descriptors(cls, descriptors: int, max_providers: int) -> Capacity:
        """How a process that may open so many descriptors divides them."""
        sockets = descriptors - min(_FILES, descriptors // 4)
        clients = min(_MAX_CLIENTS, sockets - min(max_providers, sockets // 4))
        strangers = min(_MAX_STRANGERS, clients)
        return cls(
            connections=min(sockets, clients + max_providers),
            clients=clients,
            strangers=strangers,
            strangers_an_address=max(1, strangers // 2),
        )
