"""`/v1/providers/connect`: the coordinator's end of a provider's WebSocket.

The sequence of messages stands in `tandem.protocol`. One task group a connection reads, writes,
challenges and watches for silence; whatever ends it, what was under way there moves elsewhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tandem import protocol
from tandem.coordinator.accounts.machines import Admitted, Arrival, MachineAuthenticator
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.fleet.challenges import Challenges
from tandem.coordinator.fleet.link import ProviderLink
from tandem.coordinator.fleet.many import ConnectionFreezer
from tandem.coordinator.fleet.provider import Hold, Provider
from tandem.coordinator.fleet.registration import check_heartbeat, check_registration
from tandem.coordinator.requests.dispatch import Dispatcher
from tandem.coordinator.routing.registry import Registry
from tandem.coordinator.server.events import Events
from tandem.coordinator.server.peer import peer_of
from tandem.errors import (
    AttestationRefused,
    ConfigurationError,
    ProtocolError,
    ProviderLost,
    ServiceStopping,
    TandemError,
)
from tandem.security import AttestationVerifier, RecipientKey, node_id_of

log = structlog.get_logger(__name__)

#: WebSocket close codes (RFC 6455): the peer broke the rules, or we go away.
_POLICY_VIOLATION, _GOING_AWAY = 1008, 1001
#: The next request's key is made once the first token of this one may have passed: to make a key,
#: and at the provider to open it, takes longer than all else that is between them.
_ANNOUNCED_AFTER_S = 0.002
#: How often it is looked whether an operator has removed a machine.
_SHUT_OUT_EVERY_S = 0.5
#: What sending on a connection that has ended raises.
_BROKEN = (OSError, RuntimeError, WebSocketDisconnect)


#: In ten seconds: anybody may be refused as often as they like.
_REFUSALS_LOGGED = 20


class _Closed(Exception):
    """The provider's connection ended, or was given up, for the reason that this carries."""


@dataclass(eq=False)
class _Connection:
    websocket: WebSocket
    provider: Provider
    challenges: Challenges
    admitted: Admitted


class ProviderSocket:
    """Serves provider connections until each ends."""

    def __init__(
        self,
        config: CoordinatorConfig,
        registry: Registry,
        dispatcher: Dispatcher,
        machines: MachineAuthenticator,
        hardware: Sequence[AttestationVerifier] = (),
        *,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`count` is told the name of what happens to a provider."""
        self._config = config
        self._registry = registry
        self._dispatcher = dispatcher
        self._machines = machines
        self._hardware = hardware
        self._count = count
        self._freezer = ConnectionFreezer()
        self._strangers = Events(lines=_REFUSALS_LOGGED)
        self._connections: set[_Connection] = set()

    async def serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            async with asyncio.timeout(self._config.hello_timeout_s):
                connection, version = await self._admit(websocket)
        except TandemError as error:
            self._strangers.happened("provider_refused", code=error.code, reason=error.message)
            self._count("refused")
            await _refuse(websocket, error)
            return
        except (_Closed, TimeoutError) as error:
            self._strangers.happened("provider_silent", reason=str(error) or "no hello in time")
            await _close(websocket, _POLICY_VIOLATION)
            return
        await self._serve(connection, version)

    async def cut_who_is_shut_out(self) -> None:
        """Ends connections of machines as soon as an operator removes them; returns never."""
        seen: object = None
        while True:
            await asyncio.sleep(_SHUT_OUT_EVERY_S)
            if (revision := self._machines.revision()) == seen:
                continue
            try:
                shut_out = await self._machines.shut_out()
            except ConfigurationError as error:
                log.warning("machines_not_read", reason=error.message)  # and tried again
                continue
            seen = revision
            for connection in tuple(self._connections):
                if connection.admitted.is_in(shut_out):
                    self._registry.remove(connection.provider)
                    connection.provider.link.lose(ProviderLost("its machine was removed"))
            for provider in self._registry.shut_out(shut_out.nodes):
                log.warning("cluster_with_a_removed_machine", provider_id=provider.id)
                provider.link.abandon(ProviderLost(Hold.SHUT_OUT))

    async def _admit(self, websocket: WebSocket) -> tuple[_Connection, int]:
        """Hello, challenge, proof. Raises the reason to refuse the connection."""
        hello = protocol.decode_hello(await _receive(websocket))
        if self._dispatcher.stopping:
            raise ServiceStopping("the coordinator is stopping")
        version = protocol.choose_version(hello.versions)
        registration = protocol.decode_registration(hello.registration)
        check_registration(registration)
        challenges = Challenges(registration, hello.registration, self._hardware)
        nonce = challenges.issue()
        await websocket.send_bytes(protocol.encode(protocol.Challenge(nonce)))
        proof = protocol.decode_proof(await _receive(websocket))
        attested = challenges.check(proof.evidence)
        key = RecipientKey(registration.sealing_key)
        arrival = Arrival(
            _node_id(registration), registration.name, hello.join_token, _is_local(websocket)
        )
        admitted = await self._machines.admit(arrival)
        # Nothing is awaited from here on: whoever is shut out meanwhile is found, and cut.
        provider = self._registry.add(
            registration,
            ProviderLink(key, nonce, self._config.max_outgoing),
            account=admitted.account,
            node_id=admitted.node_id,
            attested=attested,
        )
        connection = _Connection(websocket, provider, challenges, admitted)
        self._connections.add(connection)
        return connection, version

    async def _serve(self, connection: _Connection, version: int) -> None:
        provider = connection.provider
        # A provider's own label is logged as it is sent: JSON and the console renderer escape it.
        bound = log.bind(provider_id=provider.id, name=provider.name)
        bound.info(
            "provider_joined", models=list(provider.models), protocol=version, trust=provider.trust
        )
        interval_s = self._config.heartbeat_interval_s * self._registry.pace
        self._count("joined")
        self._freezer.grown_to(len(self._registry))
        welcome = protocol.Welcome(version, provider.id, interval_s)
        end: TandemError = ProviderLost("the provider was lost in mid-request: send it again")
        peer_of(connection.websocket.scope).welcome()
        try:
            async with asyncio.TaskGroup() as tasks:
                connection.provider.link.send(welcome)
                tasks.create_task(self._write(connection))
                tasks.create_task(self._watch(connection))
                tasks.create_task(self._challenge(connection))
                await self._read(connection)
        except* (_Closed, ProviderLost) as group:
            bound.info("provider_left", reason=str(group.exceptions[0]))
            self._registry.lost(provider, fatal=True)
            self._count("left")
        except* (ProtocolError, AttestationRefused) as group:
            bound.warning("provider_cut_off", reason=str(group.exceptions[0]))
            self._count("cut_off")
            self._registry.set_aside(provider)  # it may be back in a moment
            end = ProtocolError("the provider broke the protocol in mid-request: send it again")
        finally:
            self._connections.discard(connection)
            self._registry.remove(provider)
            provider.link.lose(end)
            await _close(connection.websocket, _GOING_AWAY)

    async def _read(self, connection: _Connection) -> None:
        provider = connection.provider
        while True:
            message = protocol.decode_to_coordinator(await _receive(connection.websocket))
            self._registry.heard(provider)
            if isinstance(message, protocol.Reply | protocol.Unreadable):
                connection.provider.link.deliver(message)
            elif isinstance(message, protocol.Heartbeat):
                self._heartbeat(provider, message)
            elif isinstance(message, protocol.Proof):
                self._check(connection, message)
            elif isinstance(message, protocol.Draining):
                self._registry.hold(provider, Hold.LEAVING)
            else:
                raise ProtocolError(f"unexpected {type(message).__name__} after the welcome")

    def _heartbeat(self, provider: Provider, beat: protocol.Heartbeat) -> None:
        check_heartbeat(beat)
        was_malformed = provider.role.malformed
        self._registry.heartbeat(provider, beat)
        if provider.role.malformed and not was_malformed:
            log.warning("malformed_cluster_role", provider_id=provider.id)
            self._count("malformed_role")

    async def _write(self, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message = await connection.provider.link.next_outgoing()
            try:
                async with asyncio.timeout(self._config.write_timeout_s):
                    await connection.websocket.send_bytes(protocol.encode(message))
            except TimeoutError as error:
                raise _Closed("it does not read what it is sent") from error
            except _BROKEN as error:
                raise _Closed("the connection broke while writing") from error
            if isinstance(message, protocol.Request):
                loop.call_later(_ANNOUNCED_AFTER_S, connection.provider.link.announce)

    async def _watch(self, connection: _Connection) -> None:
        """A machine that lost its power closes no connection: silence is all there is to see.

        One whose engine hangs goes on saying that it lives: its steps tell.
        """
        provider = connection.provider
        while True:
            silent_s = self._registry.silent_for_s(provider)
            if silent_s > provider.stale_after_s:
                raise _Closed(f"silent for {silent_s:.1f} s")
            hangs_s = self._registry.hangs_for_s(provider)
            if hangs_s > self._config.hangs_after_s:
                log.warning("provider_hangs", provider_id=provider.id, seconds=round(hangs_s, 1))
                self._count("hung")
                self._registry.set_aside(provider)
                self._registry.lost(provider, fatal=False)
                connection.provider.link.abandon(ProviderLost("the provider's engine hangs"))
                hangs_s = 0.0
            left_s = min(provider.stale_after_s - silent_s, self._config.hangs_after_s - hangs_s)
            await asyncio.sleep(left_s + 0.01)

    def _check(self, connection: _Connection, proof: protocol.Proof) -> None:
        try:
            attested = connection.challenges.check(proof.evidence)
        except AttestationRefused as error:
            self._count("challenge_failed")
            connection.challenges.strike(error.message)
            return
        self._registry.attest(connection.provider, attested)

    async def _challenge(self, connection: _Connection) -> None:
        """Proofs from time to time; after a strike the next is asked for at once."""
        while True:
            if not connection.challenges.strikes:
                await asyncio.sleep(self._config.challenge_interval_s)
            nonce = connection.challenges.issue()
            connection.provider.link.send(protocol.Challenge(nonce))
            await asyncio.sleep(self._config.challenge_timeout_s)
            if connection.challenges.pending:
                self._count("challenge_failed")
                connection.challenges.strike("a challenge was not answered in time")


def _node_id(registration: protocol.Registration) -> str | None:
    if not registration.certificate:
        return None
    try:
        return node_id_of(registration.certificate)
    except ConfigurationError as error:
        raise ProtocolError(f"registration.certificate: {error.message}") from error


def _is_local(websocket: WebSocket) -> bool:
    """Whether the connection comes from this machine."""
    if websocket.client is None:
        return False
    try:
        address = ipaddress.ip_address(websocket.client.host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


async def _receive(websocket: WebSocket) -> bytes:
    """The next frame. Until a peer is known, what is in it is decoded as the message due alone."""
    event = await websocket.receive()
    if event["type"] == "websocket.disconnect":
        raise _Closed(event.get("reason") or f"closed with code {event.get('code')}")
    frame: bytes | None = event.get("bytes")
    if frame is None:
        raise ProtocolError("messages are binary MessagePack frames, not text")
    return frame


async def _refuse(websocket: WebSocket, error: TandemError) -> None:
    refused = protocol.Refused(protocol.ErrorInfo.of(error))
    try:
        await websocket.send_bytes(protocol.encode(refused))
    except _BROKEN:
        return  # it did not wait for the reason
    await _close(websocket, _POLICY_VIOLATION)


async def _close(websocket: WebSocket, code: int) -> None:
    if WebSocketState.DISCONNECTED in (websocket.client_state, websocket.application_state):
        return
    try:
        await websocket.close(code)
    except _BROKEN:
        return  # it was closing already
