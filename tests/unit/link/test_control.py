"""A control connection: messages between paired nodes of one version, and nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.links import TIMEOUT_S, all_paired, identities, paired

from tandem.errors import PeerRefused, TandemError
from tandem.link import ControlLink, LinkCredentials, dial_control, serve_control
from tandem.protocol.cluster import CLUSTER_VERSION, Ping


def _control(server: LinkCredentials, client: LinkCredentials) -> tuple[list[object], object]:
    """What the server's side received, and what dialling gave."""
    received: list[object] = []

    async def scenario() -> object:
        done = asyncio.Event()

        async def on_link(link: ControlLink) -> None:
            received.append(await link.receive(TIMEOUT_S))
            link.close()
            done.set()

        listener = await serve_control(server, "127.0.0.1", 0, on_link)
        port = listener.sockets[0].getsockname()[1]
        try:
            link = await dial_control(client, "127.0.0.1", port)
            await link.send(Ping())
            async with asyncio.timeout(TIMEOUT_S):
                await done.wait()
            link.close()
        except TandemError as error:
            return error
        finally:
            listener.close()
        return link.peer

    return received, asyncio.run(scenario())


def test_a_control_link_carries_messages(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)
    received, peer = _control(zero, one)
    assert received == [Ping()]
    assert peer == zero.identity.node_id


def test_without_a_common_version_both_versions_are_named(tmp_path: Path) -> None:
    zero, one = identities(tmp_path, 2)
    old = LinkCredentials(zero, [paired(one)], alpn=["tandem/1"])
    new = LinkCredentials(one, [paired(zero)], alpn=["tandem/2", "tandem/3"])
    received, error = _control(old, new)
    assert received == []
    assert isinstance(error, PeerRefused)
    assert "tandem/1" in error.message
    assert "tandem/2, tandem/3" in error.message


def test_a_node_of_the_version_before_is_refused_and_both_are_named(tmp_path: Path) -> None:
    zero, one = identities(tmp_path, 2)
    own = f"tandem/{CLUSTER_VERSION}"
    before = f"tandem/{CLUSTER_VERSION - 1}"
    old = LinkCredentials(zero, [paired(one)], alpn=[before])
    received, error = _control(old, LinkCredentials(one, [paired(zero)]))
    assert received == []
    assert isinstance(error, PeerRefused)
    assert f"this side speaks {own}, the peer {before}" in error.message
