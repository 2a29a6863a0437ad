"""Who gets a data connection, and what an attacker on the wire can do to one: only break it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.support.links import (
    SESSION,
    TIMEOUT_S,
    Tap,
    all_paired,
    identities,
    listening,
    paired,
)

from tandem.errors import LinkLost, PeerRefused, TandemError
from tandem.link import Channel, LinkCredentials, dial_data
from tandem.protocol.cluster import DataHello, PlanHeader
from tandem.security import Identity, NodeId, load_node_key


def _attempt(
    server: LinkCredentials,
    client: LinkCredentials,
    *,
    aimed_at: NodeId | None = None,
    session: str = SESSION,
    through: Callable[[Tap], None] | None = None,
) -> tuple[Channel | None, TandemError | None]:
    """One dial: the channel that the server admitted, and the dialler's error, if there was one."""

    async def scenario() -> tuple[Channel | None, TandemError | None]:
        async with listening(server) as listener:
            tap = Tap(("127.0.0.1", listener.port))
            if through is not None:
                through(tap)
            claiming = asyncio.ensure_future(
                listener.claim(
                    SESSION,
                    {1: client.identity.node_id},
                    deadline_s=TIMEOUT_S,
                    timeout_s=TIMEOUT_S,
                )
            )
            dialling = asyncio.ensure_future(
                asyncio.to_thread(_dial, client, tap.port, aimed_at or _id(server), session)
            )
            await asyncio.wait([claiming, dialling], return_when=asyncio.FIRST_COMPLETED)
            admitted = claiming.result()[1] if claiming.done() else None
            if admitted is not None:
                admitted.send(PlanHeader(1))
            error = await dialling
            claiming.cancel()
            await asyncio.wait([claiming])
            tap.close()
            if admitted is not None:
                admitted.close()
            return admitted, error

    return asyncio.run(scenario())


def _dial(client: LinkCredentials, port: int, peer: NodeId, session: str) -> TandemError | None:
    """Why nothing came back on the connection; None when a frame did."""
    try:
        channel = dial_data(
            client, ("127.0.0.1", port), peer, DataHello(session, 1), timeout_s=TIMEOUT_S
        )
        with closing(channel):
            channel.receive()
    except TandemError as error:
        return error
    return None


def _id(node: LinkCredentials) -> NodeId:
    return node.identity.node_id


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
def test_what_a_clock_says_about_a_paired_certificate_counts_for_nothing(
    tmp_path: Path, days_ago: int
) -> None:
    zero, one = identities(tmp_path, 2)
    node = _dated(one, datetime.now(UTC) - timedelta(days=days_ago))
    admitted, error = _attempt(
        LinkCredentials(zero, [paired(node)]), LinkCredentials(node, [paired(zero)])
    )
    assert admitted is not None
    assert error is None


def _dated(node: Identity, start: datetime) -> Identity:
    """The node with a certificate that is valid for a day, as another clock has dated it."""
    key = load_node_key(node.key_path)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dated")])
    issued = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, algorithm=None)
    )
    certificate = issued.public_bytes(Encoding.PEM).decode()
    node.certificate_path.write_text(certificate)
    return Identity(node.node_id, certificate, node.key_path, node.certificate_path)


def test_tls_1_2_is_refused(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)
    one.data_context.minimum_version = ssl.TLSVersion.TLSv1_2
    one.data_context.maximum_version = ssl.TLSVersion.TLSv1_2
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
