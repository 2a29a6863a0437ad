"""Who is let in, and what is remembered of a key."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.stores import MemoryKeys

from tandem.coordinator.accounts.authentication import Authenticator
from tandem.coordinator.accounts.records import KeyRecord, KeyRole
from tandem.errors import (
    AuthenticationFailed,
    ConfigurationError,
    InternalError,
    PermissionRefused,
)


class CountedKeys(MemoryKeys):
    lookups = 0

    async def find(self, secret: str) -> KeyRecord | None:
        self.lookups += 1
        return await super().find(secret)


def test_without_keys_everybody_is_let_in() -> None:
    assert asyncio.run(Authenticator(MemoryKeys(), required=False).authenticate(None)) is None


def test_a_key_is_looked_up_once_until_any_key_changes() -> None:
    keys = CountedKeys()
    authenticator = Authenticator(keys, required=True)
    header = f"Bearer {keys.create('alice').key}"

    async def ask() -> None:
        record = await authenticator.authenticate(header)
        assert record is not None
        assert record.name == "alice"

    async def scenario() -> None:
        for _ in range(3):
            await ask()
        assert keys.lookups == 1
        keys.create("bob")
        await ask()
        assert keys.lookups == 2

    asyncio.run(scenario())


def test_what_is_an_operators_is_refused_to_a_users_key() -> None:
    keys = MemoryKeys()
    authenticator = Authenticator(keys, required=True)
    user = keys.create("alice").key
    operator = keys.create("admin", role=KeyRole.OPERATOR).key

    async def scenario() -> None:
        record = await authenticator.authenticate_operator(f"Bearer {operator}")
        assert record is not None
        assert record.name == "admin"
        with pytest.raises(PermissionRefused, match="keys create NAME --operator"):
            await authenticator.authenticate_operator(f"Bearer {user}")
        with pytest.raises(AuthenticationFailed):
            await authenticator.authenticate_operator(None)

    asyncio.run(scenario())


def test_a_key_that_is_revoked_during_its_lookup_is_not_remembered() -> None:
    class Slow(CountedKeys):
        async def find(self, secret: str) -> KeyRecord | None:
            found = await super().find(secret)
            if self.lookups == 1:
                self.revoke("alice")
            return found

    keys = Slow()
    authenticator = Authenticator(keys, required=True)
    header = f"Bearer {keys.create('alice').key}"

    async def scenario() -> None:
        assert await authenticator.authenticate(header) is not None
        with pytest.raises(AuthenticationFailed):
            await authenticator.authenticate(header)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "required"),
        ("", "required"),
        ("Basic c2VjcmV0", "no bearer token"),
        ("Bearer ", "no bearer token"),
        ("Bearer sk-openai", "not an API key"),
        ("Bearer sk-tandem-" + "x" * 300, "not an API key"),
        ("Bearer sk-tandem-unknown", "unknown or was revoked"),
    ],
)
def test_a_refusal_says_why(header: str | None, reason: str) -> None:
    with pytest.raises(AuthenticationFailed, match=reason):
        asyncio.run(Authenticator(MemoryKeys(), required=True).authenticate(header))


class DamagedKeys(MemoryKeys):
    async def find(self, secret: str) -> KeyRecord | None:
        raise ConfigurationError(f"/srv/tandem.db is damaged: {secret}")


def test_who_asks_learns_nothing_of_a_database_that_is_damaged() -> None:
    authenticator = Authenticator(DamagedKeys(), required=True)
    with pytest.raises(InternalError) as failed:
        asyncio.run(authenticator.authenticate("Bearer sk-tandem-x"))
    assert "srv" not in failed.value.message
    assert "log" in failed.value.message
