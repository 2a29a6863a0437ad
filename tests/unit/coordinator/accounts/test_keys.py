"""API keys at rest, the join token, and who is let in."""

from __future__ import annotations

import asyncio
import stat
import threading
from pathlib import Path

import pytest

from tandem.coordinator import KeyStore, load_or_create_join_token
from tandem.coordinator.accounts.authentication import Authenticator
from tandem.errors import AuthenticationFailed, ConfigurationError


def test_a_key_is_found_until_it_is_revoked(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    created = store.create("alice")
    found = store.find(created.key)
    assert found is not None
    assert (found.id, found.name) == (created.id, "alice")
    revoked = store.revoke("alice")
    assert revoked.revoked_at is not None
    assert store.find(created.key) is None
    assert [record.name for record in store.list()] == ["alice"]
    store.close()


def test_the_secret_is_nowhere_on_disk(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    secret = store.create("alice").key
    store.close()
    for path in tmp_path.iterdir():
        assert secret.encode() not in path.read_bytes()
    assert stat.S_IMODE((tmp_path / "tandem.db").stat().st_mode) == 0o600


def test_a_key_is_revoked_by_id_name_or_beginning_but_never_by_guess(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    first, second, third = (store.create(name) for name in ("a", "a", "b"))
    with pytest.raises(ConfigurationError, match="several"):
        store.revoke("a")
    with pytest.raises(ConfigurationError, match="several"):
        store.revoke("sk-tandem-")
    with pytest.raises(ConfigurationError, match="no active key"):
        store.revoke("nobody")
    assert store.revoke(str(first.id)).id == first.id
    assert store.revoke(third.key).id == third.id
    assert store.revoke("a").id == second.id
    with pytest.raises(ConfigurationError, match="no active key"):
        store.revoke("a")
    with pytest.raises(ConfigurationError, match="name"):
        store.create(" ")
    store.close()


def test_a_cached_key_is_refused_as_soon_as_another_process_revokes_it(tmp_path: Path) -> None:
    ours, theirs = KeyStore(tmp_path), KeyStore(tmp_path)
    secret = theirs.create("alice").key
    authenticator = Authenticator(ours, required=True)

    async def scenario() -> None:
        for _ in range(3):
            record = await authenticator.authenticate(f"Bearer {secret}")
            assert record is not None
        await asyncio.to_thread(theirs.revoke, "alice")
        with pytest.raises(AuthenticationFailed):
            await authenticator.authenticate(f"Bearer {secret}")

    asyncio.run(scenario())
    ours.close()
    theirs.close()


def test_without_keys_everybody_is_let_in(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    assert asyncio.run(Authenticator(store, required=False).authenticate(None)) is None
    store.close()


def test_the_join_token_is_made_once_even_by_several_at_once(tmp_path: Path) -> None:
    tokens: list[str] = []
    barrier = threading.Barrier(8)

    def load() -> None:
        barrier.wait()
        tokens.append(load_or_create_join_token(tmp_path))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 8
    assert len(set(tokens)) == 1
    assert stat.S_IMODE((tmp_path / "join-token").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["join-token"]


def test_an_empty_join_token_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "join-token").write_text("\n")
    with pytest.raises(ConfigurationError, match="join-token"):
        load_or_create_join_token(tmp_path)
