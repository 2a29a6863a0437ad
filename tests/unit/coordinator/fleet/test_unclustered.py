"""Which machines are offered for a cluster."""

from __future__ import annotations

import pytest
from tests.support.registered import beat, join, make_registry


@pytest.mark.parametrize(
    ("role", "members", "listed"),
    [(None, [], True), (0, ["n1", "n2"], False), (1, ["n1", "n2"], False), ("?", [], False)],
)
def test_a_machine_in_a_cluster_is_not_offered_to_another(
    role: object, members: list[str], listed: bool
) -> None:
    """C8."""
    registry = make_registry()
    first, second = (join(registry, ["a"], node_id=n) for n in ("n1", "n2"))
    other = join(registry, ["a"], node_id="n3", account="another")
    for provider in (second, other):
        registry.heartbeat(provider, beat())
    registry.heartbeat(first, beat(cluster_role=role, members=members))
    peers = registry.unclustered("default")
    assert (first in peers) == listed
    # The other member is in the cluster too, even before it says so itself.
    assert (second in peers) == (not members)
    assert other not in peers


def test_a_machine_is_offered_while_it_is_heard_of_and_shows_who_it_is() -> None:
    now = 0.0
    registry = make_registry(lambda: now)
    shown, anonymous = join(registry, ["a"], node_id="n1"), join(registry, ["a"])
    assert registry.unclustered("default") == [shown]
    now = 4.1
    registry.heard(anonymous)
    assert registry.unclustered("default") == []
