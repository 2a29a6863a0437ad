"""Where a request was, and where its time went, which `X-Tandem-Trace: 1` asks for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import msgspec

from tandem.coordinator.fleet.provider import Provider
from tandem.protocol import Timings

HEADER = b"x-tandem-trace"
_COMMENT = b": tandem-trace "

_encode = msgspec.json.Encoder().encode


@dataclass
class Progress:
    """Where a request was sent, and when: the clock's times of the first reservation and token."""

    provider: Provider | None = None
    attempts: int = 0
    reserved_at: float | None = None
    first_at: float | None = None
    #: Unix time of every attempt's reservation.
    reserved: list[float] = field(default_factory=list)
    #: Node ids of who has read it, in order: a set that keeps its order.
    readers: dict[str, None] = field(default_factory=dict)
    #: The providers that it has cost, once it is given up for that.
    given_up_by: list[str] = field(default_factory=list)

    def has_reserved(self, provider: Provider, now: float, *, turns: bool) -> None:
        """`turns`: it goes on there with other choices, since those before have ended well."""
        self.provider = provider
        self.attempts += not turns
        self.reserved.append(time.time())
        self.reserved_at = self.reserved_at or now


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
