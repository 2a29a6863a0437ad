"""What becomes of a key on its way to a provider."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from tandem.coordinator.accounts.records import KeyLimits, KeyRecord
from tandem.coordinator.requests.consumer import Consumer
from tandem.protocol import Trust

KEY = KeyRecord(7, "k", "sk", datetime.now(UTC), None, account="alice")
SECRET = b"x" * 32


def test_its_machines_are_those_of_its_account_and_of_its_lenders() -> None:
    lent = msgspec.structs.replace(KEY, lenders=frozenset({"bob"}))
    consumer = Consumer.of(lent, Trust.NONE, SECRET)
    assert (consumer.key, consumer.account) == ("7", "alice")
    assert consumer.owners == {"alice", "bob"}
    assert Consumer.of(None, Trust.NONE, SECRET) == Consumer()


@pytest.mark.parametrize("asked", Trust)
@pytest.mark.parametrize("least", Trust)
def test_its_trust_is_the_stricter_of_both(asked: Trust, least: Trust) -> None:
    strict = msgspec.structs.replace(KEY, limits=KeyLimits(min_trust=least))
    found = Consumer.of(strict, asked, SECRET).min_trust
    assert found.reaches(asked)
    assert found.reaches(least)
    assert found in (asked, least)


def test_accounts_have_caches_of_their_own_and_keys_of_one_account_share_it() -> None:
    def scope(key: KeyRecord | None, secret: bytes = SECRET) -> bytes:
        return Consumer.of(key, Trust.NONE, secret).cache_scope

    other = msgspec.structs.replace(KEY, id=8)
    bobs = msgspec.structs.replace(KEY, account="bob")
    assert scope(KEY) == scope(other)
    assert len({scope(KEY), scope(bobs), scope(None), scope(KEY, b"y" * 32)}) == 4
    assert b"alice" not in scope(KEY)
    assert scope(None) == b"", "nothing on the wire where there is one account"
