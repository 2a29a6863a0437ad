"""Where a request's time went: given to the consumer who asks for it with `X-Tandem-Trace: 1`."""

from __future__ import annotations

import msgspec

from tandem.protocol import Timings

HEADER = b"x-tandem-trace"
_COMMENT = b": tandem-trace "

_encode = msgspec.json.Encoder().encode


class Trace(msgspec.Struct, frozen=True):
    """Unix time in seconds, by the coordinator's clock; `provider` by the provider's own.

    A request that moved was `placed_last` where it ended, and `placed` first somewhere else.
    `readers` are the node ids of all machines that were sent it, ranks of clusters included.
    """

    received: float
    placed: float
    placed_last: float
    sealed: float
    provider: Timings
    answered: float
    readers: list[str] = []


def header(trace: Trace) -> tuple[bytes, bytes]:
    return HEADER, _encode(trace)


def comment(trace: Trace) -> bytes:
    """As a line of an event stream that clients skip."""
    return _COMMENT + _encode(trace) + b"\n\n"
