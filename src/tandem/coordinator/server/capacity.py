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
    #: Connections accepted in one turn of the event loop: those before must be read meanwhile, and
    #: those that had to go for them close a turn later, out of what is kept for files.
    accepted_a_turn: int

    @classmethod
    def of_descriptors(cls, descriptors: int, max_providers: int) -> Capacity:
        """How a process that may open so many descriptors divides them."""
        files = min(_FILES, descriptors // 4)
        sockets = descriptors - files
        clients = min(_MAX_CLIENTS, sockets - min(max_providers, sockets // 4))
        strangers = min(_MAX_STRANGERS, clients)
        return cls(
            connections=min(sockets, clients + max_providers),
            clients=clients,
            strangers=strangers,
            strangers_an_address=max(1, strangers // 2),
            accepted_a_turn=max(1, files // 4),
        )
