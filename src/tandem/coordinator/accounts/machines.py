"""Whose machine joins: one that was let in before, one with a join token, or one that waits.

A machine is known by its node id, which it proves before it is looked up here. What lets a new one
in is a join token of the operator's making, or, from this very machine, the deployment's own token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

import msgspec

from tandem.coordinator.accounts.lookups import lookup
from tandem.coordinator.accounts.ports import Nodes
from tandem.coordinator.accounts.records import DEFAULT_ACCOUNT, Node, NodeState, ShutOut
from tandem.errors import ApprovalRequired, AuthenticationFailed
from tandem.security import same_secret

#: New machines that ask to be approved are noted at most so often, however many there are.
_NOTED_EVERY_S = 1.0


class Arrival(msgspec.Struct, frozen=True):
    """A machine at the door, `local` if it is this very one; no certificate is no `node_id`."""

    node_id: str | None
    name: str
    token: str
    local: bool


class Admitted(msgspec.Struct, frozen=True):
    """Whose machine was let in, and by which token (its hash), if this time by one."""

    account: str
    node_id: str | None
    token: str | None = None

    def is_in(self, shut_out: ShutOut) -> bool:
        """Whether it was removed since, or its token revoked."""
        if self.node_id is not None:
            return self.node_id in shut_out.nodes
        return self.token in shut_out.tokens


class MachineAuthenticator:
    def __init__(
        self, nodes: Nodes, own_token: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`own_token` is the deployment's."""
        self._nodes = nodes
        self._own_token = own_token
        self._clock = clock
        self._noted_at = -_NOTED_EVERY_S

    def revision(self) -> Hashable:
        """Differs from an earlier one when a machine or a token may have been shut out since."""
        return self._nodes.revision()

    async def shut_out(self) -> ShutOut:
        return await self._nodes.shut_out()

    async def admit(self, arrival: Arrival) -> Admitted:
        """Raises AuthenticationFailed, or ApprovalRequired for a machine that is to come again.

        InternalError when machines cannot be looked up.
        """
        with lookup("machines"):
            return await self._admit(arrival)

    async def _admit(self, arrival: Arrival) -> Admitted:
        node_id = arrival.node_id
        known = None if node_id is None else await self._nodes.find(node_id)
        if known is not None and known.state is NodeState.APPROVED:
            return Admitted(known.account, known.node_id)
        is_own = same_secret(arrival.token, self._own_token)
        if arrival.token and not is_own:
            return await self._admit_by_token(arrival, known)
        if is_own and arrival.local and (known is None or known.state is NodeState.PENDING):
            return await self._let_in(arrival, DEFAULT_ACCOUNT, None)
        if node_id is None:
            raise AuthenticationFailed(
                "a machine that shows no certificate joins with a join token of its own:"
                " `tandem nodes token` makes one",
                param="join_token",
            )
        await self._note(node_id, arrival, known)
        raise _to_be_approved(node_id)

    async def _admit_by_token(self, arrival: Arrival, known: Node | None) -> Admitted:
        """By a token that was made since the machine was removed, if it was."""
        removed = known is not None and known.state is NodeState.REMOVED
        made_after = known.since if known is not None and removed else None
        spent = await self._nodes.spend(arrival.token, made_after=made_after)
        if spent is not None:
            return await self._let_in(arrival, spent.account, spent.secret_hash)
        if known is not None:
            raise _to_be_approved(known.node_id)
        raise AuthenticationFailed(
            "the join token is wrong, used up, expired or revoked: `tandem nodes token` makes"
            " another",
            param="join_token",
        )

    async def _let_in(self, arrival: Arrival, account: str, token: str | None) -> Admitted:
        """From now on it needs no token."""
        if arrival.node_id is not None:
            node = Node(arrival.node_id, arrival.name, account, NodeState.APPROVED)
            await self._nodes.put(node)
        return Admitted(account, arrival.node_id, token)

    async def _note(self, node_id: str, arrival: Arrival, known: Node | None) -> None:
        now = self._clock()
        if known is None and now - self._noted_at >= _NOTED_EVERY_S:
            self._noted_at = now
            node = Node(node_id, arrival.name, DEFAULT_ACCOUNT, NodeState.PENDING)
            await self._nodes.put(node)


def _to_be_approved(node_id: str) -> ApprovalRequired:
    return ApprovalRequired(
        "this machine waits to be approved: run `tandem nodes approve"
        f" {node_id}` on the coordinator's machine"
    )
