"""Two machines show the same code, or do not pair."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from tests.support.links import TIMEOUT_S, identities

from tandem.errors import LinkLost, PeerRefused, TandemError
from tandem.link.frames import encode_frame
from tandem.link.handshakes import MAX_AN_ADDRESS
from tandem.link.pairing import pair_by_dialling, pair_by_listening
from tandem.protocol.cluster import Offer, Reveal, Verdict
from tandem.security import NONCE_BYTES, Identity, PairedNode, commitment


class _Person:
    """Sits before one machine, and says yes or no to what it shows."""

    def __init__(self, *, accepts: bool = True) -> None:
        self.accepts = accepts
        self.seen: list[tuple[str, str]] = []

    async def confirm(self, code: str, peer: str) -> bool:
        self.seen.append((code, peer))
        return self.accepts


async def _listening(
    identity: Identity, person: _Person, port: asyncio.Future[int], max_codes: int = 1
) -> PairedNode | TandemError:
    try:
        return await pair_by_listening(
            identity, "zero", ("127.0.0.1", 0), person.confirm, port.set_result, max_codes
        )
    except TandemError as error:
        return error


async def _dialling(identity: Identity, person: _Person, port: int) -> PairedNode | TandemError:
    try:
        return await pair_by_dialling(identity, "one", ("127.0.0.1", port), person.confirm)
    except TandemError as error:
        return error


def _pair(
    directory: Path, zero: _Person, one: _Person
) -> tuple[PairedNode | TandemError, PairedNode | TandemError]:
    """What the listening and the dialling machine come to."""
    first, second = identities(directory, 2)

    async def scenario() -> tuple[PairedNode | TandemError, PairedNode | TandemError]:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(_listening(first, zero, port))
            dialling = tasks.create_task(_dialling(second, one, await port))
        return listening.result(), dialling.result()

    return asyncio.run(scenario())


def test_both_see_one_code_and_learn_the_others_name(tmp_path: Path) -> None:
    zero, one = _Person(), _Person()
    at_zero, at_one = _pair(tmp_path, zero, one)
    first, second = identities(tmp_path, 2)
    assert isinstance(at_zero, PairedNode)
    assert isinstance(at_one, PairedNode)
    assert (at_zero.name, at_zero.node_id) == ("one", second.node_id)
    assert (at_one.name, at_one.node_id) == ("zero", first.node_id)
    ((code_zero, _),), ((code_one, _),) = zero.seen, one.seen
    assert code_zero == code_one


@pytest.mark.parametrize(("zero", "one"), [(True, False), (False, True), (False, False)])
def test_a_no_on_either_side_pairs_neither(tmp_path: Path, zero: bool, one: bool) -> None:
    for outcome in _pair(tmp_path, _Person(accepts=zero), _Person(accepts=one)):
        assert isinstance(outcome, PeerRefused)


async def _send_to(port: int, *messages: Offer | Reveal | Verdict) -> None:
    """Sends these as a dialler would, whatever is answered, until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_trusting_anybody())
    for message in messages:
        writer.write(encode_frame(message))
    await reader.read()
    writer.close()


Visit = Callable[[int], Awaitable[None]]


def _pair_after(directory: Path, visit: Visit, person: _Person, max_codes: int = 1) -> object:
    """What listening gives, when the right machine comes after somebody else's visit."""
    first, second = identities(directory, 2)

    async def scenario() -> object:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(_listening(first, person, port, max_codes))
            await visit(await port)
            if not listening.done():
                tasks.create_task(_dialling(second, _Person(), await port))
        return listening.result()

    return asyncio.run(scenario())


async def _garbage(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await writer.drain()
    writer.close()


async def _nothing_over_tls(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_trusting_anybody())
    writer.close()


async def _something_else(port: int) -> None:
    await _send_to(port, Verdict(True))


async def _a_frame_too_large(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_trusting_anybody())
    writer.write(b"\x7f\xff\xff\xff\x7f\xff\xff\xff")
    await reader.read()
    writer.close()


async def _no_certificate(port: int) -> None:
    await _send_to(port, Offer("one", "-----BEGIN NOTHING-----", bytes(32)))


@pytest.mark.parametrize(
    "visit", [_garbage, _nothing_over_tls, _something_else, _a_frame_too_large, _no_certificate]
)
def test_whoever_else_comes_ends_nothing(tmp_path: Path, visit: Visit) -> None:
    person = _Person()
    assert isinstance(_pair_after(tmp_path, visit, person), PairedNode)
    assert len(person.seen) == 1


def test_a_number_that_was_not_committed_to_shows_nobody_a_code(tmp_path: Path) -> None:
    """Somebody who stands in between could choose it so that the codes are the same."""
    stranger = identities(tmp_path / "stranger", 1)[0]
    promised, shown = bytes(NONCE_BYTES), bytes([1]) * NONCE_BYTES
    offer = Offer("one", stranger.certificate, commitment(promised, stranger.certificate))

    async def visit(port: int) -> None:
        await _send_to(port, offer, Reveal(shown))

    person = _Person()
    assert isinstance(_pair_after(tmp_path, visit, person), PairedNode)
    assert [name for _, name in person.seen] == ["one"]


class _Careful(_Person):
    """Knows the name of the machine that is to come."""

    async def confirm(self, code: str, peer: str) -> bool:
        await super().confirm(code, peer)
        return peer == "one"


async def _impostor(directory: Path, port: int) -> None:
    (own,) = identities(directory / "impostor", 1)
    with pytest.raises(PeerRefused):
        await pair_by_dialling(own, "impostor", ("127.0.0.1", port), _Person().confirm)


def test_after_a_no_the_right_machine_can_still_come(tmp_path: Path) -> None:
    person = _Careful()
    outcome = _pair_after(tmp_path, partial(_impostor, tmp_path), person, max_codes=2)
    assert isinstance(outcome, PairedNode)
    assert [name for _, name in person.seen] == ["impostor", "one"]


def test_nobody_is_asked_about_codes_without_end(tmp_path: Path) -> None:
    async def visit(port: int) -> None:
        for _ in range(3):
            await _impostor(tmp_path, port)

    person = _Careful()
    outcome = _pair_after(tmp_path, visit, person, max_codes=3)
    assert isinstance(outcome, PeerRefused)
    assert "No more codes are shown" in outcome.message
    assert len(person.seen) == 3


def test_machines_that_say_nothing_hold_nobody_up(tmp_path: Path) -> None:
    """As many as there are places, of the right machine's own address."""

    async def visit(port: int) -> None:
        while len(silent) < MAX_AN_ADDRESS:
            silent.append(await asyncio.open_connection("127.0.0.1", port, ssl=_trusting_anybody()))

    silent: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    assert isinstance(_pair_after(tmp_path, visit, _Person()), PairedNode)


def test_connections_without_a_handshake_are_bounded_too(tmp_path: Path) -> None:
    """The one that has said nothing for longest gives way."""

    async def visit(port: int) -> None:
        silent = [
            await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_AN_ADDRESS + 1)
        ]
        with suppress(ConnectionError):
            assert await silent[0][0].read() == b""
        for _, writer in silent:
            writer.close()

    assert isinstance(_pair_after(tmp_path, visit, _Person()), PairedNode)


@pytest.mark.parametrize("host", ["x..y", "a" * 70])
def test_what_is_no_address_is_said_to_be_none(tmp_path: Path, host: str) -> None:
    (own,) = identities(tmp_path, 1)
    with pytest.raises(LinkLost, match="no address"):
        asyncio.run(pair_by_dialling(own, "own", (host, 7701), _Person().confirm))


def _trusting_anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
