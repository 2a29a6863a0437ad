"""Where the ranks of a group that is not the session's own channels find each other."""

from __future__ import annotations

import msgspec


class Rendezvous(msgspec.Struct, frozen=True):
    """Rank 0 keeps a store at `host`:`port`; `own_host` is this rank's address towards the others.

    `timeout_s` bounds the meeting, and each sum after it.
    """

    host: str
    port: int
    own_host: str
    timeout_s: float
