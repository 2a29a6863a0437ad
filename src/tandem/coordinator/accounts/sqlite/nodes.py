"""Machines that may join, those that ask to, and join tokens, in SQLite. Tokens by their hashes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from tandem.coordinator.accounts.issuing import (
    MAX_PENDING,
    check_account,
    check_token,
    known_node,
    new_node_id,
    only_token,
)
from tandem.coordinator.accounts.records import (
    DEFAULT_ACCOUNT,
    JoinToken,
    Node,
    NodeState,
    ShutOut,
)
from tandem.coordinator.accounts.sqlite.database import (
    Base,
    database_path,
    open_database,
    revision_of,
)
from tandem.coordinator.accounts.sqlite.problems import session_on
from tandem.security import hash_secret, new_join_token


class _JoinToken(Base):
    __tablename__ = "join_tokens"

    secret_hash: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    uses_left: Mapped[int | None]
    revoked_at: Mapped[datetime | None]

    def record(self) -> JoinToken:
        return JoinToken(
            self.secret_hash,
            self.account,
            self.created_at.replace(tzinfo=UTC),
            self.expires_at and self.expires_at.replace(tzinfo=UTC),
            self.uses_left,
            self.revoked_at and self.revoked_at.replace(tzinfo=UTC),
        )


class _Node(Base):
    __tablename__ = "nodes"

    node_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    account: Mapped[str]
    state: Mapped[str]
    since: Mapped[datetime]

    def record(self) -> Node:
        since = self.since.replace(tzinfo=UTC)
        return Node(self.node_id, self.name, self.account, NodeState(self.state), since)


class SQLiteNodes:
    """The machines and join tokens of one data folder; see `ports.Nodes`. Thread-safe."""

    def __init__(self, data_dir: Path) -> None:
        self._path = database_path(data_dir)
        self._engine = open_database(data_dir)

    async def find(self, node_id: str) -> Node | None:
        return await asyncio.to_thread(self._find, node_id)

    async def spend(self, token: str, *, made_after: datetime | None = None) -> JoinToken | None:
        return await asyncio.to_thread(self._spend, token, made_after)

    async def put(self, node: Node) -> None:
        await asyncio.to_thread(self._put, node)

    async def shut_out(self) -> ShutOut:
        return await asyncio.to_thread(self._shut_out)

    def revision(self) -> tuple[int, int]:
        return revision_of(self._path)

    def list(self) -> list[Node]:
        query = sa.select(_Node).order_by(_Node.since, _Node.node_id)
        with session_on(self._engine) as session:
            return [row.record() for row in session.scalars(query)]

    def approve(self, which: str, account: str | None = None) -> Node:
        if account is not None:
            check_account(account)
        known = known_node(self.list(), which)
        node = known or Node(new_node_id(which), "", DEFAULT_ACCOUNT, NodeState.PENDING)
        return self._set(node, NodeState.APPROVED, account or node.account)

    def remove(self, which: str) -> Node:
        node = known_node(self.list(), which)
        if node is None:
            node = Node(new_node_id(which), "", DEFAULT_ACCOUNT, NodeState.PENDING)
        return self._set(node, NodeState.REMOVED, node.account)

    def create_token(
        self, account: str, *, lasts: timedelta | None, uses: int | None
    ) -> tuple[JoinToken, str]:
        check_token(account, lasts, uses)
        secret, now = new_join_token(), datetime.now(UTC)
        row = _JoinToken(
            secret_hash=hash_secret(secret),
            account=account,
            created_at=now,
            expires_at=None if lasts is None else now + lasts,
            uses_left=uses,
        )
        with session_on(self._engine) as session:
            session.add(row)
            session.commit()
            return row.record(), secret

    def tokens(self) -> Sequence[JoinToken]:
        query = sa.select(_JoinToken).order_by(_JoinToken.created_at, _JoinToken.secret_hash)
        with session_on(self._engine) as session:
            return [row.record() for row in session.scalars(query)]

    def revoke_token(self, which: str) -> JoinToken:
        found = only_token(self.tokens(), which)
        with session_on(self._engine) as session:
            row = session.get_one(_JoinToken, found.secret_hash)
            row.revoked_at = datetime.now(UTC)
            session.commit()
            return row.record()

    def close(self) -> None:
        self._engine.dispose()

    def _find(self, node_id: str) -> Node | None:
        with session_on(self._engine) as session:
            row = session.get(_Node, node_id)
            return None if row is None else row.record()

    def _spend(self, token: str, made_after: datetime | None) -> JoinToken | None:
        """One statement takes the use: of two machines with the last one, one gets in."""
        usable = [
            _JoinToken.secret_hash == hash_secret(token),
            _JoinToken.revoked_at.is_(None),
            sa.or_(
                _JoinToken.expires_at.is_(None),
                _JoinToken.expires_at > datetime.now(UTC).replace(tzinfo=None),
            ),
            sa.or_(_JoinToken.uses_left.is_(None), _JoinToken.uses_left > 0),
        ]
        if made_after is not None:
            usable.append(_JoinToken.created_at > made_after.replace(tzinfo=None))
        taken = sa.update(_JoinToken).where(*usable).values(uses_left=_JoinToken.uses_left - 1)
        with session_on(self._engine) as session:
            row = session.scalar(taken.returning(_JoinToken))
            spent = None if row is None else row.record()
            session.commit()
            return spent

    def _put(self, node: Node) -> None:
        with session_on(self._engine) as session:
            row = session.get(_Node, node.node_id)
            if row is not None and node.state is NodeState.PENDING:
                return  # what an operator has decided holds
            session.merge(_row(node))
            session.flush()
            pending = sa.select(_Node).where(_Node.state == NodeState.PENDING.value)
            oldest = pending.order_by(_Node.since.desc(), _Node.node_id).offset(MAX_PENDING)
            for forgotten in session.scalars(oldest):
                session.delete(forgotten)
            session.commit()

    def _set(self, node: Node, state: NodeState, account: str) -> Node:
        decided = Node(node.node_id, node.name, account, state)
        self._put(decided)
        return decided

    def _shut_out(self) -> ShutOut:
        removed = sa.select(_Node.node_id).where(_Node.state == NodeState.REMOVED.value)
        revoked = sa.select(_JoinToken.secret_hash).where(_JoinToken.revoked_at.is_not(None))
        with session_on(self._engine) as session:
            return ShutOut(frozenset(session.scalars(removed)), frozenset(session.scalars(revoked)))


def _row(node: Node) -> _Node:
    return _Node(
        node_id=node.node_id,
        name=node.name,
        account=node.account,
        state=node.state.value,
        since=node.since,
    )
