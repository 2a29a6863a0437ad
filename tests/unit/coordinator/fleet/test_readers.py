"""How far those who read what is sent to a provider are trusted together."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.registered import beat, join, make_registry

from tandem.coordinator.fleet.challenges import Attested
from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.fleet.readers import ConnectedNodes, least
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason, eligibility
from tandem.coordinator.routing.registry import Registry
from tandem.protocol import Evidence, ModelName, Trust

MODEL = ModelName("m")
FIRST, SECOND = "a" * 64, "b" * 64
RANK_0 = msgspec.Raw(msgspec.msgpack.encode(0))


def trust_of(provider: Provider) -> Trust:
    """As it is now."""
    return provider.trust


def cluster(other: Trust | None) -> tuple[Registry, Provider]:
    """Rank 0, attested by hardware, whose other rank has proved this, or is not connected."""
    registry = make_registry()
    first = join(registry, [MODEL], node_id=FIRST, trust=Trust.HARDWARE)
    if other is not None:
        join(registry, [MODEL], node_id=SECOND, trust=other)
    registry.heartbeat(first, beat(cluster_role=RANK_0, members=[FIRST, SECOND]))
    return registry, first


@pytest.mark.parametrize("other", [None, *Trust])
def test_a_cluster_is_trusted_as_far_as_its_least_trusted_rank(other: Trust | None) -> None:
    _, first = cluster(other)
    assert trust_of(first) is (other or Trust.NONE)
    wants_more = Demand(MODEL, min_trust=Trust.HARDWARE)
    refused = eligibility(first, wants_more, now=0.0)
    assert refused is (None if other is Trust.HARDWARE else Reason.UNTRUSTED)
    assert first.readers == [FIRST, SECOND]


def test_what_a_rank_proves_or_loses_counts_from_then_on() -> None:
    registry, first = cluster(Trust.SELF_SIGNED)
    _, second = registry.providers
    registry.attest(second, Attested(b"", b"", Evidence(), Trust.HARDWARE))
    assert trust_of(first) is Trust.HARDWARE
    registry.remove(second)
    assert trust_of(first) is Trust.NONE
    registry.heartbeat(first, beat())
    assert trust_of(first) is Trust.HARDWARE, "alone again"


def test_who_adds_up_in_plaintext_is_read_by_whoever_listens() -> None:
    registry, first = cluster(Trust.HARDWARE)
    registry.heartbeat(
        first,
        beat(cluster_role=RANK_0, members=[FIRST, SECOND], plaintext_collectives=True),
    )
    assert trust_of(first) is Trust.NONE


@pytest.mark.parametrize("members", [[], [FIRST]])
def test_a_rank_that_hides_the_others_is_trusted_with_nothing(members: list[str]) -> None:
    registry, first = cluster(Trust.HARDWARE)
    registry.heartbeat(first, beat(cluster_role=RANK_0, members=members))
    assert trust_of(first) is Trust.NONE


def test_a_machine_that_is_connected_twice_is_what_both_have_proved() -> None:
    registry, first = cluster(Trust.HARDWARE)
    twin = join(registry, [MODEL], node_id=SECOND, trust=Trust.NONE)
    assert trust_of(first) is Trust.NONE
    registry.remove(twin)
    assert trust_of(first) is Trust.HARDWARE


def test_of_machines_that_have_gone_nothing_is_kept() -> None:
    nodes, registry = ConnectedNodes(), make_registry()
    one = join(registry, [MODEL])
    nodes.prove(FIRST, one.id, Trust.HARDWARE)
    nodes.prove(None, one.id, Trust.HARDWARE)
    nodes.forget(FIRST, one.id)
    nodes.forget(None, one.id)
    assert vars(nodes) == vars(ConnectedNodes())
    assert least(list(Trust)) is Trust.NONE


def test_a_cluster_gets_nothing_while_a_machine_is_in_it_that_was_removed() -> None:
    registry, first = cluster(None)
    anybodys = Demand(MODEL)
    assert eligibility(first, anybodys, now=0.0) is None
    assert registry.shut_out(frozenset({SECOND})) == [first]
    assert eligibility(first, anybodys, now=0.0) is Reason.NOT_READY
    assert registry.shut_out(frozenset({SECOND, "c" * 64})) == [], "it is held already"
    registry.heartbeat(first, beat())
    assert eligibility(first, anybodys, now=0.0) is None, "alone again"
    registry.heartbeat(first, beat(cluster_role=RANK_0, members=[FIRST, SECOND]))
    assert eligibility(first, anybodys, now=0.0) is Reason.NOT_READY
    registry.shut_out(frozenset())
    assert eligibility(first, anybodys, now=0.0) is None
