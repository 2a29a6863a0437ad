"""A control connection: messages between paired nodes of one version, and nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.links import TIMEOUT_S, all_paired, identities, listening, paired

from tandem.errors import PeerRefused, ProtocolError, TandemError
from tandem.link import ControlLink, LinkCredentials, dial_control
from tandem.link.frames import encode_frame
from tandem.protocol.cluster import CLUSTER_VERSION, PeerRefusal, Ping


def _control(server: LinkCredentials, client: LinkCredentials) -> tuple[list[object], object]:
    """What the server's side received, and what dialling gave."""
    received: list[object] = []

    async def scenario() -> object:
        links: asyncio.Queue[ControlLink] = asyncio.Queue()
        async with listening(server, on_control=links.put_nowait) as listener:
            try:
                link = await dial_control(client, ("127.0.0.1", listener.port))
            except TandemError as error:
                return error
            await link.send(Ping())
            async with asyncio.timeout(TIMEOUT_S):
                accepted = await links.get()
            received.append(await accepted.receive(TIMEOUT_S))
            for end in (accepted, link):
                end.close()
            return link.peer

    return received, asyncio.run(scenario())


def test_a_control_link_carries_messages(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)
    received, peer = _control(zero, one)
    assert received == [Ping()]
    assert peer == zero.identity.node_id


def test_without_a_common_version_both_versions_are_named(tmp_path: Path) -> None:
    zero, one = identities(tmp_path, 2)
    old = LinkCredentials(zero, [paired(one)], versions=[1])
    new = LinkCredentials(one, [paired(zero)], versions=[2, 3])
    received, error = _control(old, new)
    assert received == []
    assert isinstance(error, PeerRefused)
    assert "tandem/1" in error.message
    assert "tandem/2, tandem/3" in error.message


def test_a_node_of_the_version_before_is_refused_and_both_are_named(tmp_path: Path) -> None:
    zero, one = identities(tmp_path, 2)
    own = f"tandem/{CLUSTER_VERSION}"
    before = f"tandem/{CLUSTER_VERSION - 1}"
    old = LinkCredentials(zero, [paired(one)], versions=[CLUSTER_VERSION - 1])
    received, error = _control(old, LinkCredentials(one, [paired(zero)]))
    assert received == []
    assert isinstance(error, PeerRefused)
    assert f"this side speaks {own}, the peer {before}" in error.message


def test_a_node_that_is_refused_has_heard_why_whatever_it_still_sends(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> object:
        links: asyncio.Queue[ControlLink] = asyncio.Queue()
        async with listening(zero, on_control=links.put_nowait) as listener:
            link = await dial_control(one, ("127.0.0.1", listener.port))
            for _ in range(100):
                await link.send(Ping())
            accepted = await links.get()
            refusing = asyncio.ensure_future(accepted.refuse("another model"))
            heard = await link.receive(TIMEOUT_S)
            link.close()
            await refusing
            return heard

    assert asyncio.run(scenario()) == PeerRefusal("another model")


def test_what_carries_a_payload_is_no_control_message(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> None:
        links: asyncio.Queue[ControlLink] = asyncio.Queue()
        async with listening(zero, on_control=links.put_nowait) as listener:
            link = await dial_control(one, ("127.0.0.1", listener.port))
            await link._stream.write(encode_frame(Ping(), 1 << 20))
            accepted = await links.get()
            with pytest.raises(ProtocolError, match="1048576 bytes after it"):
                await accepted.receive(TIMEOUT_S)
            for end in (accepted, link):
                end.close()

    asyncio.run(scenario())
