"""The pairing conversation, on TLS that nobody vouches for yet: the short code is the proof.

The wire sequence stands in `tandem.protocol.cluster.pairing`. Both store the other only when both
said yes. Whoever listens hears several machines side by side until one shows a code, and no more
than `handshakes` allows, from their first byte on; the person is asked about one code at a time,
and not about many: each is a guess.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Never

from tandem.errors import ConfigurationError, LinkLost, PeerRefused, ProtocolError, TandemError
from tandem.link.frames import (
    PREFIX_BYTES,
    HeaderDecoder,
    check_payload,
    decode_prefix,
    encode_frame,
)
from tandem.link.handshakes import Handshakes
from tandem.link.refusals import Refusals
from tandem.link.stream import connect
from tandem.link.tls import reason_of
from tandem.protocol.cluster import CounterOffer, Offer, PairingMessage, Reveal, Verdict
from tandem.runtime import Address, address_text, host_of, listen_on
from tandem.security import NONCE_BYTES, Identity, PairedNode, commitment, pairing_code

_CONNECT_TIMEOUT_S = 10.0
#: Between two machines, before a person is asked.
_ANSWER_TIMEOUT_S = 10.0
#: Without descriptors nothing can be accepted; they come back when other connections end.
_EXHAUSTED_PAUSE_S = 0.5
#: People walk between machines.
_PERSON_TIMEOUT_S = 300.0
#: Codes that a person is shown before it is taken for an attack: each may be right by chance.
MAX_CODES = 3

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

    async def receive(self, timeout_s: float = _ANSWER_TIMEOUT_S) -> PairingMessage:
        try:
            async with asyncio.timeout(timeout_s):
                prefix = await self._reader.readexactly(PREFIX_BYTES)
                header_bytes, payload_bytes = decode_prefix(prefix)
                message = _decoder.decode(await self._reader.readexactly(header_bytes))
                check_payload(message, payload_bytes)
                return message
        except TimeoutError as error:
            raise LinkLost("the other machine did not answer") from error
        except (OSError, EOFError) as error:
            raise LinkLost("the other machine closed the connection") from error

    def close(self) -> None:
        self._writer.close()


async def pair_by_dialling(
    identity: Identity, name: str, address: Address, confirm: Confirm
) -> PairedNode:
    """The node at `address`, confirmed on both sides. Raises LinkLost or PeerRefused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            plain = await connect(address)
            reader, writer = await asyncio.open_connection(
                sock=plain, ssl=context, server_hostname=""
            )
    except (OSError, TimeoutError) as error:
        raise LinkLost(f"cannot connect to {address_text(*address)}: {error}") from error
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
    address: Address,
    confirm: Confirm,
    on_listening: Callable[[int], None],
    max_codes: int = MAX_CODES,
) -> PairedNode:
    """The first node that dials and is confirmed on both sides.

    Others are turned away, whatever they send. Raises LinkLost when none came, PeerRefused when
    `max_codes` were shown in vain, ConfigurationError when the address cannot be listened on.
    """
    pairing = _Listening(identity, name, confirm, max_codes)
    try:
        listener = listen_on(*address)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {address_text(*address)}: {error.strerror or error}"
        ) from error
    listener.setblocking(False)
    on_listening(listener.getsockname()[1])
    accepting = asyncio.ensure_future(pairing.accept(listener))
    try:
        async with asyncio.timeout(_PERSON_TIMEOUT_S):
            return await pairing.outcome
    except TimeoutError as error:
        raise LinkLost("no machine came to pair") from error
    finally:
        accepting.cancel()
        await asyncio.wait([accepting])
        listener.close()


class _Listening:
    """What becomes of all that connect, until one of them is paired."""

    def __init__(self, identity: Identity, name: str, confirm: Confirm, max_codes: int) -> None:
        self.outcome: asyncio.Future[PairedNode] = asyncio.get_running_loop().create_future()
        self._identity = identity
        self._name = name
        self._confirm = confirm
        self._codes_left = max_codes
        self._heard: Handshakes[asyncio.Task[None]] = Handshakes()
        self._refusals = Refusals()
        self._person = asyncio.Lock()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.load_cert_chain(identity.certificate_path, identity.key_path)

    async def accept(self, listener: socket.socket) -> Never:
        """Until cancelled, and with it whoever has come."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    plain, name = await asyncio.get_running_loop().sock_accept(listener)
                except ConnectionError:
                    continue  # it was gone before it was accepted
                except OSError as error:
                    self._refusals.add("everybody", f"cannot accept: {error}")
                    await asyncio.sleep(_EXHAUSTED_PAUSE_S)
                    continue
                host = host_of(name)
                task = tasks.create_task(self._attend(plain, host))
                oldest = self._heard.enter(host, task)
                if oldest is not None:
                    oldest.cancel()

    async def _attend(self, plain: socket.socket, host: str) -> None:
        """One connection, from its first byte to its end."""
        task = asyncio.current_task()
        assert task is not None
        try:
            talk = await self._shake(plain)
            try:
                peer, code = await self._show(talk)
                self._heard.leave(host, task)
                await self._ask(talk, peer, code)
            finally:
                talk.close()
        except OSError as error:
            self._refusals.add(host, f"the TLS handshake failed: {reason_of(error)}")
        except TandemError as error:
            self._refusals.add(host, f"not paired: {error.message}")
        finally:
            self._heard.leave(host, task)

    async def _shake(self, plain: socket.socket) -> _Conversation:
        """Raises OSError."""
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, plain, ssl=self._context, ssl_handshake_timeout=_ANSWER_TIMEOUT_S
        )
        return _Conversation(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def _ask(self, talk: _Conversation, peer: PairedNode, code: str) -> None:
        async with self._person:  # a second question on the screen would only confuse
            if self.outcome.done():
                return
            self._codes_left -= 1
            try:
                await _agree(talk, peer, code, self._confirm)
            except TandemError as error:
                if not self._codes_left and not self.outcome.done():
                    self.outcome.set_exception(_too_many(error))
                raise
            if not self.outcome.done():
                self.outcome.set_result(peer)

    async def _show(self, talk: _Conversation) -> tuple[PairedNode, str]:
        """Who is there, and the code that both sides show."""
        own = self._identity.certificate
        offer = await talk.receive()
        if not isinstance(offer, Offer):
            raise ProtocolError("the other machine does not pair in this way")
        peer = PairedNode.of(offer.certificate, offer.name)
        nonce = secrets.token_bytes(NONCE_BYTES)
        await talk.send(CounterOffer(self._name, own, nonce))
        reveal = await talk.receive()
        if not isinstance(reveal, Reveal) or (
            commitment(reveal.nonce, offer.certificate) != offer.commitment
        ):
            raise PeerRefused("the other machine broke its commitment: somebody may be in between")
        return peer, pairing_code(offer.certificate, reveal.nonce, own, nonce)


def _too_many(error: TandemError) -> PeerRefused:
    return PeerRefused(
        f"{error.message}. No more codes are shown: somebody else may be trying to pair. Run the"
        " command again, if you can on a network without strangers"
    )


async def _agree(talk: _Conversation, peer: PairedNode, code: str, confirm: Confirm) -> PairedNode:
    accepted = await confirm(code, peer.name)
    await talk.send(Verdict(accepted))
    if not accepted:
        raise PeerRefused("not paired: the codes were not confirmed here")
    verdict = await talk.receive(_PERSON_TIMEOUT_S)
    if not isinstance(verdict, Verdict) or not verdict.accepted:
        raise PeerRefused("not paired: the codes were not confirmed on the other machine")
    return peer
