"""Two machines show the same code, or do not pair."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from tests.support.links import TIMEOUT_S, identities

from tandem.errors import PeerRefused, ProtocolError, TandemError
from tandem.link.frames import encode_frame
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
    identity: Identity, person: _Person, port: asyncio.Future[int]
) -> PairedNode | TandemError:
    try:
        return await pair_by_listening(
            identity, "zero", ("127.0.0.1", 0), person.confirm, port.set_result
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


def test_a_number_that_was_not_committed_to_is_noticed(tmp_path: Path) -> None:
    zero, one = identities(tmp_path, 2)
    person = _Person()
    promised, shown = bytes(NONCE_BYTES), bytes([1]) * NONCE_BYTES
    offer = Offer("one", one.certificate, commitment(promised, one.certificate))

    async def scenario() -> PairedNode | TandemError:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(_listening(zero, person, port))
            tasks.create_task(_send_to(await port, offer, Reveal(shown)))
        return listening.result()

    outcome = asyncio.run(scenario())
    assert isinstance(outcome, PeerRefused)
    assert "commitment" in outcome.message
    assert not person.seen, "nobody is asked about a code that proves nothing"


def test_whoever_begins_with_something_else_does_not_pair(tmp_path: Path) -> None:
    zero, _ = identities(tmp_path, 2)

    async def scenario() -> PairedNode | TandemError:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(_listening(zero, _Person(), port))
            tasks.create_task(_send_to(await port, Verdict(True)))
        return listening.result()

    assert isinstance(asyncio.run(scenario()), ProtocolError)


def _trusting_anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
