"""A real coordinator on a thread of its own, and providers that the tests play."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tandem import protocol
from tandem.coordinator import CoordinatorConfig, KeyStore, serve
from tandem.runtime import Stop

TIMEOUT_S = 30.0
JOIN_TOKEN = "join-test"
MODEL = protocol.ModelName("played")


class Running:
    """Where the coordinator listens, a key for it, and its event loop's thread."""

    def __init__(self, data_dir: Path) -> None:
        store = KeyStore(data_dir)
        self.key = store.create("test").key
        store.close()
        self._config = CoordinatorConfig(
            host="127.0.0.1", port=0, data_dir=data_dir, join_token=JOIN_TOKEN, stale_after_s=60.0
        )
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._listening.wait(TIMEOUT_S)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.request)
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), Stop()

        def on_listening(port: int) -> None:
            self.port = port
            self._listening.set()

        await serve(self._config, self._stop, on_listening=on_listening)


@contextmanager
def running(data_dir: Path) -> Iterator[Running]:
    coordinator = Running(data_dir)
    try:
        yield coordinator
    finally:
        coordinator.stop()


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("coordinator")) as found:
        yield found


@pytest.fixture
def http(coordinator: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(
        base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
    ) as client:
        yield client


class PlayedProvider:
    """The provider's end of a connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message: protocol.ToCoordinator) -> None:
        await self.socket.send(protocol.encode(message))

    async def receive(self) -> protocol.ToProvider:
        async with asyncio.timeout(TIMEOUT_S):
            return protocol.decode_to_provider(await self.socket.recv(decode=False))

    async def join(self, token: str = JOIN_TOKEN, versions: list[int] | None = None) -> None:
        hardware = protocol.Hardware("host", "os", "cpu", 1, 1)
        model = protocol.ModelInfo(MODEL, "llama", 1, 2048, "float32")
        hello = protocol.Hello(versions or [1], token, "played", "test", hardware, [model])
        await self.send(hello)

    async def welcome(self) -> None:
        await self.join()
        assert isinstance(await self.receive(), protocol.Welcome)
        await self.beat()

    async def beat(self, *, ready: bool = True, role: object = None) -> None:
        await self.send(protocol.Heartbeat(ready, 0, 0, 8, 8, role))

    async def generate(self) -> protocol.Generate:
        """The next request."""
        message = await self.receive()
        assert isinstance(message, protocol.Generate)
        return message


def provider_socket(coordinator: Running) -> connect:
    url = f"ws://127.0.0.1:{coordinator.port}/v1/providers/connect"
    return connect(url, compression=None, max_size=None)


async def until_models(http: httpx2.AsyncClient, models: list[str]) -> None:
    """Waits for the coordinator to have read what a provider has sent."""
    async with asyncio.timeout(TIMEOUT_S):
        while [m["id"] for m in (await http.get("/v1/models")).json()["data"]] != models:
            pass
