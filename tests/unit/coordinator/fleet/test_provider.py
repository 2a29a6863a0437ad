"""A provider's record: its role in a cluster, what holds it, what it has said."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.registered import beat, join, make_registry

from tandem.coordinator.fleet.provider import NOT_CLUSTERED, Hold, Role, read_role


@pytest.mark.parametrize(
    ("claimed", "role", "answers"),
    [
        (None, NOT_CLUSTERED, True),
        (0, Role(rank=0), True),
        (1, Role(rank=1), False),
        (7, Role(rank=7), False),
        (-1, Role(malformed=True), False),
        (True, Role(malformed=True), False),
        (False, Role(malformed=True), False),
        (0.0, Role(malformed=True), False),
        ("0", Role(malformed=True), False),
        ([], Role(malformed=True), False),
        ({"rank": 0}, Role(malformed=True), False),
        (2**63, Role(malformed=True), False),
        ([{}] * 1000, Role(malformed=True), False),
    ],
)
def test_whatever_is_no_rank_fails_closed(claimed: object, role: Role, answers: bool) -> None:
    assert read_role(msgspec.msgpack.encode(claimed)) == role
    assert role.answers == answers


@pytest.mark.parametrize(
    ("holds", "draining", "warm", "ready"),
    [
        (set(), False, True, True),
        ({Hold.NOT_READY}, False, False, False),
        ({Hold.LEAVING}, True, True, False),
        ({Hold.DRAINED}, True, True, False),
        ({Hold.NOT_READY, Hold.DRAINED}, True, False, False),
    ],
)
def test_it_is_ready_while_nothing_holds_it(
    holds: set[Hold], draining: bool, warm: bool, ready: bool
) -> None:
    provider = join(make_registry(), ["m"])
    provider.holds = holds
    assert (provider.is_draining, provider.is_warm, provider.is_ready) == (draining, warm, ready)


def test_the_device_is_what_was_said_last() -> None:
    provider = join(make_registry(), ["m"])
    assert provider.device == "cpu", "as registered"
    provider.heartbeat = beat()
    assert provider.device == "cpu", "a provider that does not say"
    provider.heartbeat = beat(device="cuda:0 NVIDIA H100")
    assert provider.device == "cuda:0 NVIDIA H100"


def test_its_cache_is_as_large_as_it_says() -> None:
    provider = join(make_registry(), ["m"])
    assert provider.cache_tokens == 0
    provider.heartbeat = beat(total_blocks=10)
    assert provider.cache_tokens == 10 * provider.heartbeat.block_tokens
