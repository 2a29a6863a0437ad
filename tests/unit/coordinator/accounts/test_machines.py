"""Which machines are let in, which wait, and which are refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.support.stores import MemoryNodes, MemoryStores

from tandem.coordinator.accounts.machines import Admitted, Arrival, MachineAuthenticator
from tandem.coordinator.accounts.records import Node, NodeState
from tandem.errors import (
    ApprovalRequired,
    AuthenticationFailed,
    ConfigurationError,
    InternalError,
)

OWN = "join-own"
BOX, OTHER = "ab" * 32, "cd" * 32


class Door:
    """Machines arrive a minute after each other."""

    def __init__(self) -> None:
        self.nodes: MemoryNodes = MemoryStores().nodes()
        self._minutes = 0
        self._machines = MachineAuthenticator(self.nodes, OWN, clock=self._now)

    def arrive(
        self, token: str = "", *, node_id: str | None = BOX, local: bool = False
    ) -> Admitted:
        return asyncio.run(self._machines.admit(Arrival(node_id, "box", token, local)))

    def token(self, account: str = "alice", uses: int | None = 1) -> str:
        return self.nodes.create_token(account, lasts=timedelta(hours=1), uses=uses)[1]

    def states(self) -> dict[str, NodeState]:
        return {node.node_id: node.state for node in self.nodes.list()}

    def _now(self) -> float:
        self._minutes += 1
        return self._minutes * 60.0


def test_a_token_lets_one_machine_in_which_then_needs_none() -> None:
    door = Door()
    token = door.token()
    assert door.arrive(token).account == "alice"
    assert [door.arrive(later).account for later in ("", token, OWN, "join-x")] == ["alice"] * 4
    with pytest.raises(AuthenticationFailed, match="used up") as refused:
        door.arrive(token, node_id=OTHER)
    assert refused.value.param == "join_token"
    assert door.states() == {BOX: NodeState.APPROVED}


@pytest.mark.parametrize("token", ["", OWN])
def test_a_new_machine_waits_until_it_is_approved(token: str) -> None:
    door = Door()
    for _ in range(2):
        with pytest.raises(ApprovalRequired, match=f"tandem nodes approve {BOX}"):
            door.arrive(token)
        assert door.states() == {BOX: NodeState.PENDING}
    door.nodes.approve(BOX, "alice")
    assert door.arrive(token).account == "alice"


def test_this_machines_own_providers_need_no_approval() -> None:
    """They have the deployment's token; whoever comes through a proxy here has not."""
    door = Door()
    assert door.arrive(OWN, local=True).account == "default"
    assert door.arrive(OWN, node_id=None, local=True).account == "default"
    with pytest.raises(ApprovalRequired):
        door.arrive("", node_id=OTHER, local=True)


@pytest.mark.parametrize("uses", [1, 20, None])
def test_a_machine_that_was_removed_is_let_in_by_a_new_token_or_an_approval_alone(
    uses: int | None,
) -> None:
    door = Door()
    token = door.token(uses=uses)
    door.arrive(token)
    door.nodes.remove(BOX)
    for tried, local in (("", False), (token, False), (OWN, False), (OWN, True)):
        with pytest.raises(ApprovalRequired):
            door.arrive(tried, local=local)
        assert door.states() == {BOX: NodeState.REMOVED}
    assert door.arrive(door.token("bob")).account == "bob"
    door.nodes.remove(BOX)
    door.nodes.approve(BOX)
    assert door.arrive().account == "bob"


def test_a_machine_without_a_certificate_needs_a_token_each_time() -> None:
    door = Door()
    token = door.token(uses=2)
    assert [door.arrive(token, node_id=None).account for _ in range(2)] == ["alice"] * 2
    for tried in (token, "", OWN):
        with pytest.raises(AuthenticationFailed):
            door.arrive(tried, node_id=None)
    assert door.states() == {}


def test_who_may_not_stay_is_who_was_removed_or_came_by_a_token_that_was_revoked() -> None:
    door = Door()
    made, secret = door.nodes.create_token("alice", lasts=None, uses=None)
    known, nameless = door.arrive(secret), door.arrive(secret, node_id=None)
    door.nodes.revoke_token(made.id)
    shut_out = asyncio.run(door.nodes.shut_out())
    assert (known.is_in(shut_out), nameless.is_in(shut_out)) == (False, True)
    door.nodes.remove(BOX)
    assert known.is_in(asyncio.run(door.nodes.shut_out()))


def test_however_many_strangers_knock_few_are_noted() -> None:
    nodes = MemoryNodes()
    machines = MachineAuthenticator(nodes, OWN, clock=lambda: 5.0)
    for number in range(50):
        with pytest.raises(ApprovalRequired):
            asyncio.run(machines.admit(Arrival(f"{number:064x}", "box", "", False)))
    assert len(nodes.list()) == 1


class DamagedNodes(MemoryNodes):
    async def find(self, node_id: str) -> Node | None:
        raise ConfigurationError(f"/srv/tandem.db is damaged: {node_id}")


def test_a_stranger_learns_nothing_of_a_database_that_is_damaged() -> None:
    machines = MachineAuthenticator(DamagedNodes(), OWN)
    with pytest.raises(InternalError) as failed:
        asyncio.run(machines.admit(Arrival(BOX, "box", "", local=False)))
    assert "srv" not in failed.value.message
