"""What every store of accounts does, whatever it is made of: a new one gets its row in STORES."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from tests.support.stores import MemoryStores

from tandem.coordinator.accounts.authentication import Authenticator
from tandem.coordinator.accounts.issuing import MAX_PENDING
from tandem.coordinator.accounts.ports import Stores
from tandem.coordinator.accounts.records import (
    CANCELLED,
    COMPLETED,
    CRASHED,
    EVERYONE,
    Entry,
    JoinToken,
    KeyLimits,
    KeyRole,
    Node,
    NodeState,
    Share,
)
from tandem.coordinator.accounts.stores import STORES
from tandem.errors import AuthenticationFailed, ConfigurationError
from tandem.protocol import Trust

HOUR = timedelta(hours=1)
KINDS: dict[str, Callable[[Path], Stores]] = STORES | {"memory": lambda _: MemoryStores()}


@pytest.fixture(params=sorted(KINDS))
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    return KINDS[request.param](tmp_path)


def entry(name: str, key_id: int | None = 1, **more: object) -> Entry:
    opened = Entry(
        request_id=name, started_at=datetime.now(UTC), key_id=key_id, account="default", model="m"
    )
    return msgspec.structs.replace(opened, **more)


def closed(opened: Entry, outcome: str = COMPLETED, tokens: int = 5) -> Entry:
    return msgspec.structs.replace(
        opened, outcome=outcome, prompt_tokens=10, completion_tokens=tokens
    )


def test_a_key_is_found_until_it_is_revoked(stores: Stores) -> None:
    keys = stores.keys()
    limits = KeyLimits(tokens_per_minute=7, min_trust=Trust.HARDWARE)
    created = keys.create("alice", account="a", limits=limits, role=KeyRole.OPERATOR)
    found = asyncio.run(keys.find(created.key))
    assert found is not None
    assert (found.id, found.name, found.account) == (created.id, "alice", "a")
    assert found.limits == limits
    assert found.role is KeyRole.OPERATOR
    assert found.created_at.tzinfo is UTC
    assert asyncio.run(keys.find("sk-tandem-another")) is None
    revoked = keys.revoke("alice")
    assert revoked.revoked_at is not None
    assert revoked.revoked_at.tzinfo is UTC
    assert asyncio.run(keys.find(created.key)) is None
    assert keys.list() == [revoked]
    keys.close()


def test_a_key_is_a_users_unless_it_is_said(stores: Stores) -> None:
    keys = stores.keys()
    found = asyncio.run(keys.find(keys.create("alice").key))
    assert found is not None
    assert found.role is KeyRole.USER
    keys.close()


def test_a_key_is_revoked_by_id_name_or_beginning_but_never_by_guess(stores: Stores) -> None:
    keys = stores.keys()
    first, second, third = (keys.create(name) for name in ("a", "a", "b"))
    with pytest.raises(ConfigurationError, match="several"):
        keys.revoke("a")
    with pytest.raises(ConfigurationError, match="several"):
        keys.revoke("sk-tandem-")
    with pytest.raises(ConfigurationError, match="no active key"):
        keys.revoke("nobody")
    assert keys.revoke(str(first.id)).id == first.id
    assert keys.revoke(third.key).id == third.id
    assert keys.revoke("a").id == second.id
    with pytest.raises(ConfigurationError, match="no active key"):
        keys.revoke("a")
    assert [record.name for record in keys.list()] == ["a", "a", "b"]
    keys.close()


@pytest.mark.parametrize(("name", "account"), [(" ", "default"), ("alice", " ")])
def test_a_key_has_a_name_and_an_account(stores: Stores, name: str, account: str) -> None:
    keys = stores.keys()
    with pytest.raises(ConfigurationError, match="name"):
        keys.create(name, account=account)
    assert keys.list() == []
    keys.close()


def test_a_revision_differs_once_somebody_else_has_changed_a_key(stores: Stores) -> None:
    ours, theirs = stores.keys(), stores.keys()
    theirs.create("alice")
    before = ours.revision()
    assert ours.revision() == before
    theirs.revoke("alice")
    assert ours.revision() != before
    ours.close()
    theirs.close()


def test_a_remembered_key_is_refused_as_soon_as_another_process_revokes_it(stores: Stores) -> None:
    ours, theirs = stores.keys(), stores.keys()
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


def test_a_key_knows_who_shares_machines_with_its_account(stores: Stores) -> None:
    keys, shares = stores.keys(), stores.shares()
    alice = keys.create("alice", account="alice").key

    def lenders() -> frozenset[str]:
        found = asyncio.run(keys.find(alice))
        assert found is not None
        return found.lenders

    before = keys.revision()
    assert lenders() == frozenset()
    for share in (Share("bob", "alice"), Share("carol", EVERYONE), Share("bob", "dave")):
        shares.share(share)
        shares.share(share)
    assert lenders() == {"bob", "carol"}
    assert keys.revision() != before, "what was remembered of a key does not hold any more"
    shares.unshare(Share("bob", "alice"))
    assert lenders() == {"carol"}
    assert shares.list() == [Share("bob", "dave"), Share("carol", EVERYONE)]
    with pytest.raises(ConfigurationError, match="does not share"):
        shares.unshare(Share("bob", "alice"))
    for wrong in (Share("", "alice"), Share("bob", ""), Share("a", "a"), Share(EVERYONE, "a")):
        with pytest.raises(ConfigurationError):
            shares.share(wrong)
    with pytest.raises(ConfigurationError, match="all of them"):
        keys.create("x", account=EVERYONE)
    keys.close()
    shares.close()


def test_a_join_token_lets_in_as_many_machines_as_it_says(stores: Stores) -> None:
    nodes, others = stores.nodes(), stores.nodes()
    made, alices = nodes.create_token("alice", lasts=HOUR, uses=2)
    _, bobs = others.create_token("bob", lasts=None, uses=None)
    assert alices != bobs
    spent = [asyncio.run(nodes.spend(alices)) for _ in range(3)]
    assert [token and (token.account, token.uses_left) for token in spent] == [
        ("alice", 1),
        ("alice", 0),
        None,
    ]
    spent = [asyncio.run(others.spend(bobs)) for _ in range(3)]
    assert [token and (token.account, token.uses_left) for token in spent] == [("bob", None)] * 3
    assert asyncio.run(nodes.spend("join-unknown")) is None
    assert [token.uses_left for token in nodes.tokens()] == [0, None]
    assert nodes.tokens()[0].id == made.id
    nodes.close()
    others.close()


def test_of_many_machines_with_the_last_use_of_a_token_one_gets_in(stores: Stores) -> None:
    nodes = stores.nodes()
    _, secret = nodes.create_token("alice", lasts=HOUR, uses=1)

    async def together() -> list[JoinToken | None]:
        return await asyncio.gather(*(nodes.spend(secret) for _ in range(8)))

    assert sum(token is not None for token in asyncio.run(together())) == 1
    nodes.close()


def test_a_join_token_ends_with_its_time_or_when_it_is_revoked(stores: Stores) -> None:
    nodes = stores.nodes()
    _, short = nodes.create_token("alice", lasts=timedelta(microseconds=1), uses=1)
    assert asyncio.run(nodes.spend(short)) is None
    made, secret = nodes.create_token("alice", lasts=None, uses=None)
    before = nodes.revision()
    revoked = nodes.revoke_token(made.id)
    assert revoked.revoked_at is not None
    assert nodes.revision() != before
    assert asyncio.run(nodes.spend(secret)) is None
    assert asyncio.run(nodes.shut_out()).tokens == {made.secret_hash}
    with pytest.raises(ConfigurationError, match="no active join token"):
        nodes.revoke_token(made.id)
    nodes.close()


@pytest.mark.parametrize(
    ("account", "lasts", "uses"),
    [("", HOUR, 1), (EVERYONE, HOUR, 1), ("a", HOUR, 0), ("a", timedelta(), 1)],
)
def test_a_join_token_that_could_let_nobody_in_is_refused(
    stores: Stores, account: str, lasts: timedelta, uses: int
) -> None:
    nodes = stores.nodes()
    with pytest.raises(ConfigurationError):
        nodes.create_token(account, lasts=lasts, uses=uses)
    assert list(nodes.tokens()) == []
    nodes.close()


def test_a_machine_keeps_the_state_that_an_operator_gave_it(stores: Stores) -> None:
    nodes = stores.nodes()
    box = Node("ab" * 32, "box", "default", NodeState.PENDING)

    def state() -> NodeState | None:
        found = asyncio.run(nodes.find(box.node_id))
        return None if found is None else found.state

    assert state() is None
    asyncio.run(nodes.put(box))
    assert state() is NodeState.PENDING
    assert nodes.approve("ab" * 4, "alice").account == "alice"
    asyncio.run(nodes.put(box))
    assert state() is NodeState.APPROVED
    assert nodes.remove("box").account == "alice"
    asyncio.run(nodes.put(box))
    assert state() is NodeState.REMOVED
    assert asyncio.run(nodes.shut_out()).nodes == {box.node_id}
    assert nodes.approve(box.node_id).account == "alice", "its account stays"
    assert asyncio.run(nodes.shut_out()).nodes == frozenset()
    unseen = nodes.approve("cd" * 32)
    assert (unseen.account, unseen.state) == ("default", NodeState.APPROVED)
    with pytest.raises(ConfigurationError, match="no machine"):
        nodes.approve("nobody")
    with pytest.raises(ConfigurationError, match="no machine"):
        nodes.remove("")
    nodes.close()


def test_a_machine_that_waits_has_no_name_and_none_is_called_as_another_is_known(
    stores: Stores,
) -> None:
    """Names are machines' own words: a stranger takes another's, or the beginning of its id."""
    nodes = stores.nodes()
    box = Node("ab" * 32, "box", "default", NodeState.PENDING)
    for number, name in enumerate(("box", box.node_id, box.node_id[:16])):
        asyncio.run(nodes.put(Node(f"{number:064x}", name, "default", NodeState.PENDING)))
    with pytest.raises(ConfigurationError, match="calls itself"):
        nodes.approve("box")
    assert nodes.approve(box.node_id).node_id == box.node_id, "though it was not seen yet"
    nodes.remove(box.node_id)
    assert nodes.approve(box.node_id[:16]).node_id == box.node_id
    asyncio.run(nodes.put(Node("ef" * 32, "box", "default", NodeState.APPROVED)))
    assert nodes.remove("box").node_id == "ef" * 32
    assert sum(node.state is NodeState.PENDING for node in nodes.list()) == 3
    nodes.close()


def test_a_token_may_have_to_be_made_after_some_time(stores: Stores) -> None:
    nodes = stores.nodes()
    made, secret = nodes.create_token("alice", lasts=None, uses=1)
    assert asyncio.run(nodes.spend(secret, made_after=made.created_at)) is None
    before = made.created_at - timedelta(microseconds=1)
    assert asyncio.run(nodes.spend(secret, made_after=before)) is not None
    nodes.close()


def test_of_machines_that_wait_the_newest_are_kept(stores: Stores) -> None:
    nodes = stores.nodes()
    started = datetime.now(UTC)
    asyncio.run(nodes.put(Node("f" * 64, "approved", "a", NodeState.APPROVED, started)))
    for number in range(MAX_PENDING + 3):
        since = started + timedelta(seconds=number)
        asyncio.run(nodes.put(Node(f"{number:064x}", "x", "default", NodeState.PENDING, since)))
    kept = nodes.list()
    assert [node.name for node in kept].count("approved") == 1
    assert [node.node_id for node in kept[1:]] == [f"{n:064x}" for n in range(3, MAX_PENDING + 3)]
    nodes.close()


def test_a_request_is_one_entry_and_counts_once(stores: Stores) -> None:
    ledger = stores.ledger()
    for number in range(200):
        opened = entry(f"r{number}")
        ledger.open(opened)
        ledger.record(closed(opened, CANCELLED if number % 2 else COMPLETED))
        if number % 3 == 0:
            ledger.record(closed(opened, tokens=10**6))  # said twice: the first word counts
    ledger.close()
    ledger = stores.ledger()  # what is closed stays closed, over restarts too
    ledger.record(closed(entry("r1"), tokens=10**6))
    ledger.close()
    usage = stores.usage()
    (total,) = usage.totals()
    usage.close()
    assert (total.requests, total.failed) == (200, 0)
    assert total.prompt_tokens == 2000
    assert total.completion_tokens == 1000


def test_sums_are_by_key_and_model_and_time(stores: Stores) -> None:
    ledger = stores.ledger()
    for number, key_id in enumerate([1, 1, 2, None]):
        ledger.record(closed(entry(f"r{number}", key_id)))
    ledger.record(closed(entry("failed", 2), "provider_lost"))
    ledger.record(closed(entry("other", 2, model="b")))
    ledger.record(entry("under way", 1))
    ledger.close()
    usage = stores.usage()
    assert [(t.key_id, t.model, t.requests, t.failed) for t in usage.totals()] == [
        (None, "m", 1, 0),
        (1, "m", 2, 0),
        (2, "b", 1, 0),
        (2, "m", 2, 1),
    ]
    assert usage.totals(since=datetime.now(UTC) + timedelta(hours=1)) == []
    usage.close()
    again = stores.ledger()  # it knows what was spent
    assert again.spent == {1: 30, 2: 45}
    again.close()


def test_entries_come_newest_first_with_all_their_fields(stores: Stores) -> None:
    now = datetime.now(UTC)
    first = closed(entry("first", None, started_at=now - timedelta(minutes=1), queue_s=0.25))
    second = entry("second", 3, provider="box", attempts=2, cached_tokens=4)
    ledger = stores.ledger()
    ledger.record(first)
    ledger.open(second)
    ledger.close()
    usage = stores.usage()
    assert usage.entries(limit=9) == [second, first]
    assert usage.entries(limit=1) == [second]
    usage.close()


def test_what_a_crash_left_open_is_closed_when_the_ledger_is_opened_again(stores: Stores) -> None:
    ledger = stores.ledger()
    ledger.open(entry("open", prompt_tokens=10, completion_tokens=4))
    ledger.close()  # all that was recorded is kept, and nobody has closed this one
    again = stores.ledger()
    assert again.spent == {1: 14}, "what was delivered by then is known"
    again.close()
    usage = stores.usage()
    (left,) = usage.entries(limit=9)
    usage.close()
    assert (left.outcome, left.completion_tokens) == (CRASHED, 4)
