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
from tandem.coordinator import CoordinatorConfig, serve
from tandem.runtime import Stop
from tandem.security import Prover, ReplyChannel, SealingKey, issue_certificate, request_context

#: For hangs only.
TIMEOUT_S = 120.0
JOIN_TOKEN = "join-test"
MODEL = protocol.ModelName("played")


class Running:
    """Where the coordinator listens, a key for it, and its event loop's thread."""

    def __init__(self, data_dir: Path, **settings: object) -> None:
        self.key = create_key(data_dir)
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


class Asked(msgspec.Struct, frozen=True):
    """A request that was opened."""

    request_id: protocol.RequestId
    window: int
    deadline_s: float
    content: protocol.Generate


class PlayedProvider:
    """The provider's end of a connection: it proves who it is, and opens what is sealed to it."""

    def __init__(
        self, socket: ClientConnection, name: str = "played", prover: Prover | None = None
    ) -> None:
        self.socket = socket
        self.name = name
        self.key = Ed25519PrivateKey.generate()
        self.prover = prover or Prover(self.key)
        self.sealing = SealingKey()
        self.nonce = b""
        self.sent: list[bytes] = []
        self.hints: list[bytes] = []
        self.replies: dict[protocol.RequestId, ReplyChannel] = {}

    async def send(self, message: protocol.ToCoordinator) -> None:
        frame = protocol.encode(message)
        self.sent.append(frame)
        await self.socket.send(frame)

    async def reply(self, request_id: protocol.RequestId, answer: protocol.AnswerPart) -> None:
        sealed = self.replies[request_id].seal(protocol.encode(answer))
        await self.send(protocol.Reply(request_id, sealed))

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
        model = protocol.ModelInfo(MODEL, "llama", 1, 2048, "float32")
        pem = issue_certificate(self.key).encode()
        der = load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        return protocol.Registration(self.name, "test", hardware, [model], self.sealing.public, der)

    async def hello(self, token: str = JOIN_TOKEN, versions: list[int] | None = None) -> bytes:
        """The encoded registration that was sent."""
        registration = protocol.encode(self.registration())
        await self.send(protocol.Hello(versions or [2], token, registration))
        return registration

    async def join(self, token: str = JOIN_TOKEN) -> protocol.ToProvider:
        """Hello and proof; what the coordinator says to them."""
        registration = await self.hello(token)
        challenge = await self.receive()
        assert isinstance(challenge, protocol.Challenge)
        self.nonce = challenge.nonce
        statement = protocol.statement(challenge.nonce, registration)
        await self.send(protocol.Proof(self.prover.prove(statement)))
        return await self.receive()

    async def welcome(self) -> None:
        assert isinstance(await self.join(), protocol.Welcome)
        await self.beat()

    async def beat(self, *, ready: bool = True, **more: object) -> None:
        beat = protocol.Heartbeat(ready, 0, 0, 64, 64)
        await self.send(msgspec.structs.replace(beat, **more))

    async def generate(self) -> Asked:
        """The next request, opened."""
        message = await self.receive()
        assert isinstance(message, protocol.Request)
        return self.open(message)

    def open(self, message: protocol.Request) -> Asked:
        context = request_context(self.nonce, message.number, message.request_id)
        content = protocol.decode_work(self.sealing.open(message.sealed, context))
        assert isinstance(content, protocol.Generate)
        self.replies[message.request_id] = ReplyChannel(content.reply_key, message.request_id)
        return Asked(message.request_id, message.window, message.deadline_s, content)


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
