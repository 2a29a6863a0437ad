"""A real coordinator on a thread of its own, and providers that the tests play."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from tests.support.stores import create_key
from websockets.asyncio.client import ClientConnection, connect

from tandem import protocol
from tandem.coordinator import CoordinatorConfig, KeyRole, serve
from tandem.runtime import Stop
from tandem.security import Prover, ProviderKeys, SealingKey, issue_certificate

#: For hangs only.
TIMEOUT_S = 120.0
JOIN_TOKEN = "join-test"
MODEL = protocol.ModelName("played")


class Running:
    """Where the coordinator listens, a key for it, and its event loop's thread."""

    def __init__(self, data_dir: Path, **settings: object) -> None:
        self.key = create_key(data_dir, role=KeyRole.OPERATOR)
        self.data_dir = data_dir
        config = CoordinatorConfig(
            host="127.0.0.1",
            port=0,
            data_dir=data_dir,
            join_token=JOIN_TOKEN,
            stale_after_s=60.0,
            patience_s=0.0,
        )
        self._config: CoordinatorConfig = msgspec.structs.replace(config, **settings)
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
        """Does nothing when it has stopped already."""
        if not self._thread.is_alive():
            return
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
def running(data_dir: Path, **settings: object) -> Iterator[Running]:
    coordinator = Running(data_dir, **settings)
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


class Opened(msgspec.Struct, frozen=True):
    """A request that was opened, and how it is answered."""

    asked: protocol.Asked
    content: protocol.Generate

    @property
    def request_id(self) -> protocol.RequestId:
        return self.asked.request.request_id

    @property
    def window(self) -> int:
        return self.asked.request.window

    @property
    def deadline_s(self) -> float:
        return self.asked.request.deadline_s


class PlayedProvider:
    """The provider's end of a connection, one step at a time, as the test has it."""

    def __init__(
        self, socket: ClientConnection, name: str = "played", prover: Prover | None = None
    ) -> None:
        self.socket = socket
        self.name = name
        self.key = Ed25519PrivateKey.generate()
        self.prover = prover or Prover(self.key)
        self.sealing = SealingKey()
        self.sent: list[bytes] = []
        self.hints: list[bytes] = []
        self.opened: dict[protocol.RequestId, Opened] = {}
        self._outgoing: list[protocol.ToCoordinator] = []

    async def send(self, message: protocol.ToCoordinator) -> None:
        frame = protocol.encode(message)
        self.sent.append(frame)
        await self.socket.send(frame)

    async def reply(self, request_id: protocol.RequestId, answer: protocol.AnswerPart) -> None:
        self.side.answer(self.opened[request_id].asked, answer)
        await self._flush()

    async def receive(self) -> protocol.ToProvider:
        """The next message that is no mere hint."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                message = protocol.decode_to_provider(await self.socket.recv(decode=False))
                if not isinstance(message, protocol.NextKey):
                    return message
                self.hints.append(message.sealed_key)

    def registration(self) -> protocol.Registration:
        hardware = protocol.Hardware("host", "os", "cpu", 1, 1)
        model = protocol.ModelInfo(MODEL, "llama", 1, 2**20, "float32")
        pem = issue_certificate(self.key).encode()
        der = load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        return protocol.Registration(self.name, "test", hardware, [model], self.sealing.public, der)

    async def hello(self, token: str = JOIN_TOKEN, versions: list[int] | None = None) -> None:
        """A hello of the test's own making."""
        registration = protocol.encode(self.registration())
        await self.send(protocol.Hello(versions or [2], token, registration))

    async def join(self, token: str = JOIN_TOKEN) -> protocol.ToProvider:
        """Hello and proof; what the coordinator says to them."""
        keys = ProviderKeys(self.sealing, self.prover)
        registration = protocol.encode(self.registration())
        self.side = protocol.ProviderSide(keys, registration, self._outgoing.append)
        self.side.greet(token)
        await self._flush()
        challenge = await self.receive()
        assert isinstance(challenge, protocol.Challenge)
        self.side.receive(challenge)
        await self._flush()
        answer = await self.receive()
        self.side.receive(answer)
        return answer

    async def welcome(self) -> None:
        assert isinstance(await self.join(), protocol.Welcome)
        await self.beat()

    async def beat(self, *, ready: bool = True, **more: object) -> None:
        """`cluster_role` is anything, as it would be encoded."""
        if "cluster_role" in more:
            more["cluster_role"] = msgspec.Raw(msgspec.msgpack.encode(more["cluster_role"]))
        beat = protocol.Heartbeat(ready, 0, 0, 64, 64)
        await self.send(msgspec.structs.replace(beat, **more))

    async def generate(self) -> Opened:
        """The next request, opened."""
        message = await self.receive()
        assert isinstance(message, protocol.Request)
        return self.open(message)

    def open(self, message: protocol.Request) -> Opened:
        asked = self.side.receive(message)
        assert isinstance(asked, protocol.Asked)
        assert isinstance(asked.work, protocol.Generate)
        opened = self.opened[message.request_id] = Opened(asked, asked.work)
        return opened

    async def _flush(self) -> None:
        while self._outgoing:
            await self.send(self._outgoing.pop(0))


def provider_socket(coordinator: Running) -> connect:
    url = f"ws://127.0.0.1:{coordinator.port}/v1/providers/connect"
    return connect(url, compression=None, max_size=None)


async def until_models(http: httpx2.AsyncClient, models: list[str]) -> None:
    """Waits for the coordinator to have read what a provider has sent."""
    async with asyncio.timeout(TIMEOUT_S):
        while [m["id"] for m in (await http.get("/v1/models")).json()["data"]] != models:
            pass


async def until_providers(http: httpx2.AsyncClient, count: int) -> None:
    """Waits until so many providers can be sent requests."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            models = (await http.get("/v1/models")).json()["data"]
            if sum(model["routable_providers"] for model in models) == count:
                return
