"""Who gets a data connection, and what an attacker on the wire can do to one: only break it."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.support.links import SESSION, TIMEOUT_S, Tap, all_paired, identities, paired

from tandem.errors import LinkLost, PeerRefused, TandemError
from tandem.link import Channel, DataListener, LinkCredentials, dial_data
from tandem.protocol.cluster import DataHello, PlanHeader
from tandem.security import Identity, NodeId, issue_certificate


def _attempt(
    server: LinkCredentials,
    client: LinkCredentials,
    *,
    aimed_at: NodeId | None = None,
    session: str = SESSION,
    through: Callable[[Tap], None] | None = None,
) -> tuple[Channel | None, TandemError | None]:
    """One dial: the channel that the server admitted, and the dialler's error, if there was one."""
    listener = DataListener(server, "127.0.0.1")
    admitted: dict[int, Channel] = {}

    def accept() -> None:
        deadline = time.monotonic() + TIMEOUT_S
        expected = {1: client.identity.node_id}
        with suppress(LinkLost):  # the port was closed before anybody acceptable came
            found = listener.accept(SESSION, expected, deadline=deadline, timeout_s=TIMEOUT_S)
            admitted.update(found)
            found[1].send(PlanHeader(1))

    thread = threading.Thread(target=accept)
    thread.start()
    tap = Tap(("127.0.0.1", listener.port))
    if through is not None:
        through(tap)
    error = None
    try:
        channel = dial_data(
            client,
            ("127.0.0.1", tap.port),
            aimed_at or server.identity.node_id,
            DataHello(session, 1),
            timeout_s=TIMEOUT_S,
        )
        with closing(channel):
            channel.receive()
    except TandemError as caught:
        error = caught
        listener.close()
    thread.join(TIMEOUT_S)
    listener.close()
    tap.close()
    assert not thread.is_alive()
    for found in admitted.values():
        found.close()
    return admitted.get(1), error


VERSIONS = (bytearray(b"\x03\x01"), bytearray(b"\x03\x03"))


def test_paired_nodes_get_a_link(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)
    admitted, error = _attempt(zero, one)
    assert admitted is not None
    assert error is None


def test_an_unpaired_node_is_refused(tmp_path: Path) -> None:
    zero, one, stranger = identities(tmp_path, 3)
    server = LinkCredentials(zero, [paired(one)])
    admitted, error = _attempt(server, LinkCredentials(stranger, [paired(zero)]))
    assert admitted is None
    assert isinstance(error, LinkLost)


def test_an_unpaired_server_is_refused_by_the_dialler(tmp_path: Path) -> None:
    zero, one, other = identities(tmp_path, 3)
    client = LinkCredentials(one, [paired(other)])
    admitted, error = _attempt(LinkCredentials(zero, [paired(one)]), client)
    assert admitted is None
    assert isinstance(error, LinkLost)


def test_a_paired_node_in_anothers_place_is_refused(tmp_path: Path) -> None:
    _, one, two = all_paired(tmp_path, 3)
    admitted, error = _attempt(two, one, aimed_at=NodeId("f" * 64))
    assert admitted is None
    assert isinstance(error, PeerRefused)
    assert "in place of" in error.message


def test_a_connection_of_another_session_is_refused(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)
    admitted, error = _attempt(zero, one, session="an older one")
    assert admitted is None
    assert isinstance(error, LinkLost)


@pytest.mark.parametrize("days_ago", [30, -30], ids=["expired", "not yet valid"])
def test_a_certificate_outside_its_time_is_refused(tmp_path: Path, days_ago: int) -> None:
    zero, one = identities(tmp_path, 2)
    node = _issued(one, datetime.now(UTC) - timedelta(days=days_ago))
    admitted, error = _attempt(
        LinkCredentials(zero, [paired(node)]), LinkCredentials(node, [paired(zero)])
    )
    assert admitted is None
    assert isinstance(error, LinkLost)


def _issued(node: Identity, now: datetime) -> Identity:
    key = load_pem_private_key(node.key_path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    certificate = issue_certificate(key, now=now, validity=timedelta(days=1))
    node.certificate_path.write_text(certificate)
    return Identity(node.node_id, certificate, node.key_path, node.certificate_path)


def test_tls_1_2_is_refused(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)
    one.client_context.minimum_version = ssl.TLSVersion.TLSv1_2
    one.client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    admitted, error = _attempt(zero, one)
    assert admitted is None
    assert error is not None
    assert "version" in error.message.lower() or "protocol" in error.message.lower()


def test_nothing_but_tls_records_is_on_the_wire(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)
    taps: list[Tap] = []
    _, error = _attempt(zero, one, through=taps.append)
    assert error is None
    for seen in taps[0].seen.values():
        assert seen
        assert SESSION.encode() not in seen
        position = 0
        while position < len(seen):  # every record: type 20 to 23, version 3.1 or 3.3, length
            assert seen[position] in (20, 22, 23)
            assert seen[position + 1 : position + 3] in VERSIONS
            position += 5 + int.from_bytes(seen[position + 3 : position + 5], "big")
        assert position == len(seen)


def _length_of_a_dial(zero: LinkCredentials, one: LinkCredentials) -> int:
    taps: list[Tap] = []
    _attempt(zero, one, through=taps.append)
    return len(taps[0].seen["to_target"])


def test_a_bit_flipped_anywhere_breaks_the_link(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)
    length = _length_of_a_dial(zero, one)
    # The last part is the first frame; before it comes the handshake.
    for offset in [*range(60, length - 10, length // 12), length - 30, length - 2]:

        def flip(tap: Tap, offset: int = offset) -> None:
            tap.flip_at = offset

        admitted, error = _attempt(zero, one, through=flip)
        assert admitted is None, offset
        assert isinstance(error, LinkLost), offset


def test_a_frame_cut_short_breaks_the_link(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)
    length = _length_of_a_dial(zero, one)

    def cut(tap: Tap) -> None:
        tap.cut_at = length - 5

    admitted, error = _attempt(zero, one, through=cut)
    assert admitted is None
    assert isinstance(error, LinkLost)
