"""`/v1/providers/connect`: the coordinator's end of a provider's WebSocket.

The sequence of messages stands in `tandem.protocol`. One task group a connection reads, writes
and watches for silence; whatever ends it, what was under way at the provider fails at once.
"""

from __future__ import annotations

import asyncio

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tandem import protocol
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.dispatch import Dispatcher
from tandem.coordinator.provider import Provider
from tandem.coordinator.registry import Registry
from tandem.coordinator.relay import ProviderLink
from tandem.errors import (
    AuthenticationFailed,
    ProtocolError,
    ProviderLost,
    ServiceStopping,
    TandemError,
)
from tandem.security import same_secret

log = structlog.get_logger(__name__)

#: WebSocket close codes (RFC 6455): the peer broke the rules, or we go away.
_POLICY_VIOLATION, _GOING_AWAY = 1008, 1001
#: What sending on a connection that has ended raises.
_BROKEN = (OSError, RuntimeError, WebSocketDisconnect)


class _Closed(Exception):
    """The provider's connection ended, or was given up, for the reason that this carries."""


class ProviderSocket:
    """Serves provider connections until each ends."""

    def __init__(
        self, config: CoordinatorConfig, registry: Registry, dispatcher: Dispatcher
    ) -> None:
        self._config = config
        self._registry = registry
        self._dispatcher = dispatcher

    async def serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            async with asyncio.timeout(self._config.hello_timeout_s):
                hello = await _receive(websocket)
            version = self._admit(hello)
            assert isinstance(hello, protocol.Hello)
            provider = self._registry.add(hello)
        except TandemError as error:
            log.warning("provider_refused", code=error.code, reason=error.message)
            await _refuse(websocket, error)
            return
        except (_Closed, TimeoutError) as error:
            log.warning("provider_silent", reason=str(error) or "no hello in time")
            await _close(websocket, _POLICY_VIOLATION)
            return
        await self._serve(websocket, provider, version)

    def _admit(self, hello: protocol.ToCoordinator) -> int:
        """The protocol version to speak. Raises the reason to refuse the connection."""
        if not isinstance(hello, protocol.Hello):
            raise ProtocolError(f"a provider says hello first, not {type(hello).__name__}")
        if not same_secret(hello.join_token, self._config.join_token):
            raise AuthenticationFailed("the join token is wrong", param="join_token")
        if self._dispatcher.stopping:
            raise ServiceStopping("the coordinator is stopping")
        return protocol.choose_version(hello.versions)

    async def _serve(self, websocket: WebSocket, provider: Provider, version: int) -> None:
        link = self._dispatcher.connect(provider)
        # A provider's own label is logged as it is sent: JSON and the console renderer escape it.
        bound = log.bind(provider_id=provider.id, name=provider.name)
        bound.info("provider_joined", models=list(provider.models), protocol=version)
        welcome = protocol.Welcome(version, provider.id, self._config.heartbeat_interval_s)
        try:
            async with asyncio.TaskGroup() as tasks:
                link.send(welcome)
                tasks.create_task(self._write(websocket, link))
                tasks.create_task(self._watch(provider))
                await self._read(websocket, provider, link)
        except* (_Closed, ProviderLost) as group:
            bound.info("provider_left", reason=str(group.exceptions[0]))
        except* ProtocolError as group:
            bound.warning("provider_broke_the_protocol", reason=str(group.exceptions[0]))
        finally:
            self._registry.remove(provider)
            self._dispatcher.disconnect(provider)
            await _close(websocket, _GOING_AWAY)

    async def _read(self, websocket: WebSocket, provider: Provider, link: ProviderLink) -> None:
        while True:
            message = await _receive(websocket)
            self._registry.heard(provider)
            if isinstance(message, protocol.Chunk | protocol.Finished | protocol.Failed):
                link.deliver(message)
            elif isinstance(message, protocol.Heartbeat):
                self._heartbeat(provider, message)
            elif isinstance(message, protocol.Draining):
                provider.draining = True
            else:
                raise ProtocolError(f"unexpected {type(message).__name__} after the hello")

    def _heartbeat(self, provider: Provider, beat: protocol.Heartbeat) -> None:
        was_malformed = provider.role.malformed
        self._registry.heartbeat(provider, beat)
        if provider.role.malformed and not was_malformed:
            log.warning("malformed_cluster_role", provider_id=provider.id)

    async def _write(self, websocket: WebSocket, link: ProviderLink) -> None:
        while True:
            message = await link.next_outgoing()
            try:
                async with asyncio.timeout(self._config.write_timeout_s):
                    await websocket.send_bytes(protocol.encode(message))
            except TimeoutError as error:
                raise _Closed("it does not read what it is sent") from error
            except _BROKEN as error:
                raise _Closed("the connection broke while writing") from error

    async def _watch(self, provider: Provider) -> None:
        """A machine that lost its power closes no connection: silence is all there is to see."""
        while True:
            silent_s = self._registry.silent_for_s(provider)
            if silent_s > self._config.stale_after_s:
                raise _Closed(f"silent for {silent_s:.1f} s")
            await asyncio.sleep(self._config.stale_after_s - silent_s + 0.01)


async def _receive(websocket: WebSocket) -> protocol.ToCoordinator:
    event = await websocket.receive()
    if event["type"] == "websocket.disconnect":
        raise _Closed(event.get("reason") or f"closed with code {event.get('code')}")
    frame = event.get("bytes")
    if frame is None:
        raise ProtocolError("messages are binary MessagePack frames, not text")
    return protocol.decode_to_coordinator(frame)


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
