"""Frames of a provider's WebSocket: the first byte says which message, and at which end.

An answer's parts follow one another in one request, as a coordinator takes them.
"""

from __future__ import annotations

from collections.abc import Callable

from tandem import protocol
from tandem.coordinator.fleet.provider import read_role
from tandem.coordinator.fleet.registration import check_registration
from tandem.errors import TandemError

PREFIX, CODEC = 1, "msgpack"
TOKENS = (
    *("type", "hello", "proof", "heartbeat", "reply", "unreadable", "draining", "challenge"),
    *("welcome", "refused", "request", "next_key", "grant", "cancel", "chunk", "finished"),
    *("failed", "deltas", "usage", "stages", "prompt_tokens", "cluster_role", "members"),
    *("counters", "versions", "join_token", "registration", "models", "hardware", "sealing_key"),
)


def _heard(frame: bytes) -> None:
    message = protocol.decode_to_coordinator(frame)
    if isinstance(message, protocol.Heartbeat):
        read_role(message.cluster_role)


def _registered(frame: bytes) -> None:
    check_registration(protocol.decode_registration(frame))


def _answered(frame: bytes) -> None:
    protocol.decode_answer_part(frame)


def _told(frame: bytes) -> None:
    protocol.decode_to_provider(frame)


def _asked(frame: bytes) -> None:
    protocol.decode_work(frame)


_READERS: tuple[Callable[[bytes], None], ...] = (_heard, _registered, _answered, _told, _asked)


def run(data: bytes) -> None:
    if not data:
        return
    try:
        _READERS[data[0] % len(_READERS)](data[1:])
    except TandemError:
        return
