"""One port for paired nodes, whoever else comes there and however many of them."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import uvloop
from tests.support.links import SESSION, TIMEOUT_S, all_paired, identities, listening, paired

from tandem.errors import ConfigurationError, LinkLost
from tandem.link import (
    Channel,
    ControlLink,
    LinkCredentials,
    LinkListener,
    dial_control,
    dial_data,
)
from tandem.link import listener as module
from tandem.link.handshakes import MAX_AN_ADDRESS
from tandem.protocol.cluster import DataHello, Ping, PlanHeader
from tandem.security import NodeId

#: More than the bounds on handshakes allow, from one address.
CROWD = 2 * MAX_AN_ADDRESS


def _connect(listener: LinkListener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port), timeout=TIMEOUT_S)


def _stranger(directory: Path, *, shows_certificate: bool = True) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["tandem-data/3"])
    if shows_certificate:
        (own,) = identities(directory / "stranger", 1)
        context.load_cert_chain(own.certificate_path, own.key_path)
    return context


def _half_a_handshake(directory: Path) -> bytes:
    """The first flight of a client that says no more."""
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        _stranger(directory).wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


@contextmanager
def _crowd(listener: LinkListener, said: list[bytes]) -> Iterator[None]:
    """Connections that say this and then nothing, and that nobody closes at this end."""
    with ExitStack() as stack:
        for data in said:
            stack.enter_context(_connect(listener)).sendall(data)
        yield


async def _data(
    listener: LinkListener, server: LinkCredentials, client: LinkCredentials
) -> tuple[Channel, Channel]:
    dialled = await asyncio.to_thread(
        dial_data,
        client,
        ("127.0.0.1", listener.port),
        server.identity.node_id,
        DataHello(SESSION, 1),
        timeout_s=TIMEOUT_S,
    )
    accepted = await listener.claim(
        SESSION, {1: client.identity.node_id}, deadline_s=TIMEOUT_S, timeout_s=TIMEOUT_S
    )
    return accepted[1], dialled


async def _both_kinds_pass(
    listener: LinkListener,
    links: asyncio.Queue[ControlLink],
    server: LinkCredentials,
    client: LinkCredentials,
) -> None:
    """A paired node talks, and sends a step, over the one port."""
    async with asyncio.timeout(TIMEOUT_S):
        link = await dial_control(client, ("127.0.0.1", listener.port))
        await link.send(Ping())
        accepted_link = await links.get()
        assert await accepted_link.receive(TIMEOUT_S) == Ping()
        accepted, dialled = await _data(listener, server, client)
    dialled.send(PlanHeader(1), b"plan")
    assert accepted.receive() == (PlanHeader(1), bytearray(b"plan"))
    for end in (link, accepted_link, accepted, dialled):
        end.close()


def test_control_and_data_come_through_one_port(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> None:
        links: asyncio.Queue[ControlLink] = asyncio.Queue()
        async with listening(zero, on_control=links.put_nowait) as listener:
            await _both_kinds_pass(listener, links, zero, one)
            assert listener.refusals.count == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["idle", "half a handshake", "half a record", "garbage"])
def test_a_crowd_of_strangers_keeps_no_paired_node_out(tmp_path: Path, kind: str) -> None:
    """They are of the paired node's own address, and it waits for none of their deadlines."""
    zero, one = all_paired(tmp_path, 2)
    first_flight = _half_a_handshake(tmp_path)
    noise = random.Random(1)
    said = {
        "idle": [b""] * CROWD,
        "half a handshake": [first_flight] * CROWD,
        "half a record": [first_flight[:40]] * CROWD,
        "garbage": [noise.randbytes(noise.randint(1, 600)) for _ in range(CROWD)],
    }[kind]

    async def scenario() -> int:
        links: asyncio.Queue[ControlLink] = asyncio.Queue()
        async with listening(zero, on_control=links.put_nowait) as listener:
            with _crowd(listener, said):
                await _both_kinds_pass(listener, links, zero, one)
                await _both_kinds_pass(listener, links, zero, one)
            return listener.refusals.count

    module_timeout_never_passes = TIMEOUT_S * 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HANDSHAKE_TIMEOUT_S", module_timeout_never_passes)
        assert asyncio.run(scenario()) >= CROWD - MAX_AN_ADDRESS


def test_strangers_who_shake_hands_are_refused_and_counted(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    def knock(listener: LinkListener, context: ssl.SSLContext) -> bytes:
        try:
            with _connect(listener) as plain, context.wrap_socket(plain) as secure:
                return secure.recv(1)
        except OSError:
            return b""

    async def scenario() -> None:
        links: asyncio.Queue[ControlLink] = asyncio.Queue()
        async with listening(zero, on_control=links.put_nowait) as listener:
            for shows_certificate in (True, False):
                context = _stranger(tmp_path, shows_certificate=shows_certificate)
                assert await asyncio.to_thread(knock, listener, context) == b""
            assert listener.refusals.count == 2
            assert links.empty()
            await _both_kinds_pass(listener, links, zero, one)

    asyncio.run(scenario())


def test_a_handshake_that_stands_still_ends_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_TIMEOUT_S", 0.05)
    (zero, _) = all_paired(tmp_path, 2)

    async def scenario() -> int:
        async with listening(zero) as listener:
            with _connect(listener) as idle:
                assert await asyncio.to_thread(idle.recv, 1) == b""
            return listener.refusals.count

    assert asyncio.run(scenario()) == 1


def test_nothing_is_left_open_when_a_listener_ends(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)
    before = psutil.Process().num_fds()

    async def scenario() -> None:
        async with listening(zero) as listener:
            with _crowd(listener, [b""] * CROWD):
                unclaimed = await asyncio.to_thread(
                    dial_data,
                    one,
                    ("127.0.0.1", listener.port),
                    zero.identity.node_id,
                    DataHello("nobody's", 1),
                    timeout_s=TIMEOUT_S,
                )
        with pytest.raises(LinkLost):
            await asyncio.to_thread(unclaimed.receive)
        unclaimed.close()

    asyncio.run(scenario())
    assert psutil.Process().num_fds() == before


def test_of_a_nodes_data_connections_the_newest_counts(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> None:
        async with listening(zero) as listener:
            old = await asyncio.to_thread(
                dial_data,
                one,
                ("127.0.0.1", listener.port),
                zero.identity.node_id,
                DataHello("an older one", 1),
                timeout_s=TIMEOUT_S,
            )
            accepted, dialled = await _data(listener, zero, one)
            with pytest.raises(LinkLost):
                await asyncio.to_thread(old.receive)
            for end in (old, accepted, dialled):
                end.close()

    asyncio.run(scenario())


def test_a_data_connection_that_begins_with_something_else_is_refused(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    def begin(listener: LinkListener) -> bytes:
        with _connect(listener) as plain, one.data_context.wrap_socket(plain) as secure:
            secure.sendall(b"\x00\x01\x00\x00\x40\x00\x00\x00")
            secure.sendall(random.Random(1).randbytes(1 << 16))
            return secure.recv(1)

    async def scenario() -> int:
        async with listening(zero) as listener:
            assert await asyncio.to_thread(begin, listener) == b""
            return listener.refusals.count

    assert asyncio.run(scenario()) == 1


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    zero, _ = all_paired(tmp_path, 2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            LinkListener(zero, ("127.0.0.1", port))


def _link_local() -> list[str]:
    """This machine's own, with their scopes."""
    return [
        f"{address.address.partition('%')[0]}%{interface}"
        for interface, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family is socket.AF_INET6 and address.address.startswith("fe80:")
    ]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="a machine without IPv6")
@pytest.mark.parametrize("host", ["::1", "::", "", *_link_local()[:1]])
def test_a_link_comes_about_over_ipv6(tmp_path: Path, host: str) -> None:
    """On the event loop that services use, which has ideas of its own about addresses."""
    zero, one = all_paired(tmp_path, 2)
    to_dial = host if host not in {"", "::"} else "::1"

    async def scenario() -> None:
        links: asyncio.Queue[ControlLink] = asyncio.Queue()
        async with listening(zero, host, on_control=links.put_nowait) as listener:
            link = await dial_control(one, (to_dial, listener.port))
            accepted_link = await links.get()
            # Data goes to where the control connection has gone, as it names it.
            dialled = await asyncio.to_thread(
                dial_data,
                one,
                (link.host, link.port),
                zero.identity.node_id,
                DataHello(SESSION, 1),
                timeout_s=TIMEOUT_S,
            )
            expected: dict[int, NodeId] = {1: one.identity.node_id}
            accepted = await listener.claim(
                SESSION, expected, deadline_s=TIMEOUT_S, timeout_s=TIMEOUT_S
            )
            for end in (link, accepted_link, dialled, accepted[1]):
                end.close()

    uvloop.run(scenario())


def test_only_paired_nodes_are_told_of_a_version_that_they_do_not_share(tmp_path: Path) -> None:
    zero, one = identities(tmp_path, 2)
    server = LinkCredentials(zero, [paired(one)], versions=[9])

    async def scenario() -> str:
        async with listening(server) as listener:
            with pytest.raises(Exception, match="no common link version") as caught:
                await dial_control(
                    LinkCredentials(one, [paired(zero)]), ("127.0.0.1", listener.port)
                )
            return str(caught.value)

    assert "tandem/9" in asyncio.run(scenario())
