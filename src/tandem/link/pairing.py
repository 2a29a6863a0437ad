"""The pairing conversation, on TLS that nobody vouches for yet: the short code is the proof.

The wire sequence stands in `tandem.protocol.cluster.pairing`. Both store the other only when both
said yes.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Awaitable, Callable

from tandem.errors import LinkLost, PeerRefused, ProtocolError, TandemError
from tandem.link.frames import PREFIX_BYTES, HeaderDecoder, decode_prefix, encode_frame
from tandem.protocol.cluster import CounterOffer, Offer, PairingMessage, Reveal, Verdict
from tandem.security import NONCE_BYTES, Identity, PairedNode, commitment, pairing_code

_CONNECT_TIMEOUT_S = 10.0
#: People walk between machines.
_PERSON_TIMEOUT_S = 300.0

#: Shows the code and the peer's name, and says whether both sides show the same.
Confirm = Callable[[str, str], Awaitable[bool]]


_decoder: HeaderDecoder[PairingMessage] = HeaderDecoder(PairingMessage)  # type: ignore[arg-type]


class _Conversation:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: PairingMessage) -> None:
        try:
            self._writer.write(encode_frame(message))
            await self._writer.drain()
        except OSError as error:
            raise LinkLost(f"the other machine is gone: {error}") from error

    async def receive(self) -> PairingMessage:
        try:
            async with asyncio.timeout(_PERSON_TIMEOUT_S):
                header_bytes, _ = decode_prefix(await self._reader.readexactly(PREFIX_BYTES))
                return _decoder.decode(await self._reader.readexactly(header_bytes))
        except TimeoutError as error:
            raise LinkLost("the other machine did not answer") from error
        except (OSError, EOFError) as error:
            raise LinkLost("the other machine closed the connection") from error

    def close(self) -> None:
        self._writer.close()


async def pair_by_dialling(
    identity: Identity, name: str, address: tuple[str, int], confirm: Confirm
) -> PairedNode:
    """The node at `address`, confirmed on both sides. Raises LinkLost or PeerRefused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*address, ssl=context)
    except (OSError, TimeoutError) as error:
        raise LinkLost(f"cannot connect to {address[0]}:{address[1]}: {error}") from error
    talk = _Conversation(reader, writer)
    try:
        nonce = secrets.token_bytes(NONCE_BYTES)
        own = identity.certificate
        await talk.send(Offer(name, own, commitment(nonce, own)))
        counter = await talk.receive()
        if not isinstance(counter, CounterOffer):
            raise ProtocolError("the other machine does not pair in this way")
        await talk.send(Reveal(nonce))
        code = pairing_code(own, nonce, counter.certificate, counter.nonce)
        return await _agree(talk, PairedNode.of(counter.certificate, counter.name), code, confirm)
    finally:
        talk.close()


async def pair_by_listening(
    identity: Identity,
    name: str,
    address: tuple[str, int],
    confirm: Confirm,
    on_listening: Callable[[int], None],
) -> PairedNode:
    """The first node that dials, confirmed on both sides. Raises LinkLost or PeerRefused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(identity.certificate_path, identity.key_path)
    outcome: asyncio.Future[PairedNode] = asyncio.get_running_loop().create_future()
    taken = False

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        talk = _Conversation(reader, writer)
        if taken:  # one at a time: somebody else's code on the screen would only confuse
            talk.close()
            return
        taken = True
        try:
            outcome.set_result(await _answer(talk, identity, name, confirm))
        except TandemError as error:
            outcome.set_exception(error)
        finally:
            talk.close()

    server = await asyncio.start_server(accept, *address, ssl=context)
    on_listening(server.sockets[0].getsockname()[1])
    try:
        async with asyncio.timeout(_PERSON_TIMEOUT_S):
            return await outcome
    except TimeoutError as error:
        raise LinkLost("no machine came to pair") from error
    finally:
        server.close()


async def _answer(
    talk: _Conversation, identity: Identity, name: str, confirm: Confirm
) -> PairedNode:
    offer = await talk.receive()
    if not isinstance(offer, Offer):
        raise ProtocolError("the other machine does not pair in this way")
    nonce = secrets.token_bytes(NONCE_BYTES)
    await talk.send(CounterOffer(name, identity.certificate, nonce))
    reveal = await talk.receive()
    if not isinstance(reveal, Reveal) or (
        commitment(reveal.nonce, offer.certificate) != offer.commitment
    ):
        raise PeerRefused("the other machine broke its commitment: somebody may be in between")
    code = pairing_code(offer.certificate, reveal.nonce, identity.certificate, nonce)
    return await _agree(talk, PairedNode.of(offer.certificate, offer.name), code, confirm)


async def _agree(talk: _Conversation, peer: PairedNode, code: str, confirm: Confirm) -> PairedNode:
    accepted = await confirm(code, peer.name)
    await talk.send(Verdict(accepted))
    if not accepted:
        raise PeerRefused("not paired: the codes were not confirmed here")
    verdict = await talk.receive()
    if not isinstance(verdict, Verdict) or not verdict.accepted:
        raise PeerRefused("not paired: the codes were not confirmed on the other machine")
    return peer
