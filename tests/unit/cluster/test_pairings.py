"""A node learns while it runs who was paired with it, and who is no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.links import TIMEOUT_S, identities, paired

from tandem.cluster import pairings as module
from tandem.cluster.pairings import follow_pairings
from tandem.errors import ConfigurationError
from tandem.security import PairedNode, PairedNodes


def _followed(
    directory: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[PairedNodes], None]
) -> list[PairedNode]:
    """Who is paired, as a follower learns it after the change."""
    monkeypatch.setattr(module, "_INTERVAL_S", 0.01)
    pairings = PairedNodes(directory)

    async def scenario() -> list[PairedNode]:
        news: asyncio.Queue[list[PairedNode]] = asyncio.Queue()
        following = asyncio.ensure_future(follow_pairings(pairings, news.put_nowait))
        async with asyncio.timeout(TIMEOUT_S):
            await news.get()
            change(pairings)
            told = await news.get()
        following.cancel()
        await asyncio.wait([following])
        return told

    return asyncio.run(scenario())


def test_another_pairing_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = identities(tmp_path, 1)
    told = _followed(tmp_path, monkeypatch, lambda pairings: pairings.add(paired(node)))
    assert [each.node_id for each in told] == [node.node_id]


def test_a_removal_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = identities(tmp_path, 2)
    for node in (one, two):
        PairedNodes(tmp_path).add(paired(node))
    told = _followed(tmp_path, monkeypatch, lambda pairings: pairings.remove(one.node_id))
    assert [each.node_id for each in told] == [two.node_id]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ConfigurationError("no")])
def test_what_cannot_be_read_or_trusted_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The disk with the pairings and this machine's own key is gone for a while."""
    monkeypatch.setattr(module, "_INTERVAL_S", 0.01)
    pairings = PairedNodes(tmp_path)
    (node,) = identities(tmp_path, 1)

    async def scenario() -> None:
        told: asyncio.Queue[list[PairedNode]] = asyncio.Queue()
        failures = [error]

        def trust(paired: list[PairedNode]) -> None:
            told.put_nowait(paired)
            if failures:
                raise failures.pop()

        following = asyncio.ensure_future(follow_pairings(pairings, trust))
        async with asyncio.timeout(TIMEOUT_S):
            assert await told.get() == []
            pairings.add(paired(node))
            assert await told.get() == [paired(node)]
        following.cancel()
        await asyncio.wait([following])

    asyncio.run(scenario())


def test_pairings_that_cannot_be_read_are_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "paired-nodes.json").mkdir()
    with pytest.raises(ConfigurationError, match=r"paired-nodes\.json cannot be read"):
        PairedNodes(tmp_path).all()


def test_a_damaged_file_changes_nothing_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = identities(tmp_path, 1)
    asked = PairedNodes.all

    def change(pairings: PairedNodes) -> None:
        (tmp_path / "paired-nodes.json").write_text("{")

        def once(self: PairedNodes) -> list[PairedNode]:
            try:
                return asked(self)
            finally:  # it was read while it was damaged: mend it
                (tmp_path / "paired-nodes.json").unlink(missing_ok=True)
                monkeypatch.setattr(PairedNodes, "all", asked)
                pairings.add(paired(node))

        monkeypatch.setattr(PairedNodes, "all", once)

    told = _followed(tmp_path, monkeypatch, change)
    assert [each.node_id for each in told] == [node.node_id]
