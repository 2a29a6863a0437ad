"""A real provider with the demonstration model, against a coordinator's side played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen

from tandem import protocol
from tandem.protocol import RequestId
from tandem.provider import ProviderConfig, serve
from tandem.runtime import Stop

Script = Callable[["Peer"], Awaitable[None]]
MODEL = protocol.ModelName("tandem-demo")


class Peer:
    """The coordinator's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket

    async def receive(self) -> protocol.ToCoordinator:
        """The next message that is not a heartbeat."""
        async with asyncio.timeout(60.0):
            while True:
                frame = await self._socket.recv(decode=False)
                message = protocol.decode_to_coordinator(bytes(frame))
                if not isinstance(message, protocol.Heartbeat):
                    return message

    async def send(self, message: protocol.ToProvider) -> None:
        await self._socket.send(protocol.encode(message))

    async def welcome(self) -> protocol.Hello:
        hello = await self.receive()
        assert isinstance(hello, protocol.Hello)
        await self.send(protocol.Welcome(1, protocol.ProviderId("provider-1"), 0.5))
        async with asyncio.timeout(60.0):
            while True:  # it joins first, and loads its model meanwhile
                message = protocol.decode_to_coordinator(await self._socket.recv(decode=False))
                if isinstance(message, protocol.Heartbeat) and message.ready:
                    return hello

    async def ask(self, question: str, *, window: int = 64, model: str = MODEL) -> RequestId:
        request_id = RequestId(f"request-{question}")
        await self.send(
            protocol.Generate(
                request_id=request_id,
                model=protocol.ModelName(model),
                prompts=[protocol.ChatPrompt([protocol.ChatMessage("user", question)])],
                n=1,
                sampling=protocol.Sampling(temperature=0.0),
                deadline_s=60.0,
                window=window,
            )
        )
        return request_id


def run(script: Script) -> None:
    """Runs the provider until the script has ended; both must end well."""

    async def main() -> None:
        stop = Stop()
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def handle(socket: ServerConnection) -> None:
            task = asyncio.ensure_future(script(Peer(socket)))
            await asyncio.wait([task])
            if not finished.done():
                error = task.exception()
                finished.set_result(None) if error is None else finished.set_exception(error)

        async with listen(handle, "127.0.0.1", 0, compression=None) as server:
            port = server.sockets[0].getsockname()[1]
            config = ProviderConfig(
                coordinator_url=f"ws://127.0.0.1:{port}",
                join_token="join-test",
                model="tandem-demo",
                name="test",
                threads=1,
                kv_tokens=2048,
                drain_timeout_s=10.0,
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(serve(config, stop))
                await finished
                stop.request()

    asyncio.run(main())


def test_a_request_is_answered_in_numbered_chunks() -> None:
    async def script(peer: Peer) -> None:
        hello = await peer.welcome()
        assert [model.name for model in hello.models] == [MODEL]
        await peer.ask("What is 3 + 4?")
        text, number = "", 0
        while isinstance(message := await peer.receive(), protocol.Chunk):
            assert message.number == number
            number += 1
            text += "".join(delta.text for delta in message.deltas)
        assert isinstance(message, protocol.Finished)
        assert text == "3 + 4 = 7."
        assert message.usage.completion_tokens > 0

    run(script)


def test_no_more_chunks_are_sent_than_the_window_allows() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        slow = await peer.ask("Count to 25.", window=2)
        first, second = await peer.receive(), await peer.receive()
        # A whole other request passes meanwhile: the slow one is stuck, and alone in that.
        await peer.ask("Hello!")
        while not isinstance(message := await peer.receive(), protocol.Finished):
            assert isinstance(message, protocol.Chunk)
            assert message.request_id != slow
        await peer.send(protocol.Grant(slow, 100))
        chunks = [first, second]
        while not isinstance(message := await peer.receive(), protocol.Finished):
            chunks.append(message)
        text = ""
        for number, chunk in enumerate(chunks):
            assert isinstance(chunk, protocol.Chunk)
            assert (chunk.request_id, chunk.number) == (slow, number)
            text += chunk.deltas[0].text
        assert text == ", ".join(map(str, range(1, 26))) + "."

    run(script)


def test_another_model_is_refused() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.ask("Hello!", model="another")
        message = await peer.receive()
        assert isinstance(message, protocol.Failed)
        assert message.error.code == "model_not_found"

    run(script)


def test_it_comes_back_after_the_connection_is_lost() -> None:
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.welcome()

    async def main() -> None:
        stop, again = Stop(), asyncio.Event()

        async def handle(socket: ServerConnection) -> None:
            await script(Peer(socket))
            if connections == 2:
                again.set()

        async with listen(handle, "127.0.0.1", 0, compression=None) as server:
            port = server.sockets[0].getsockname()[1]
            config = ProviderConfig(
                coordinator_url=f"ws://127.0.0.1:{port}",
                join_token="join-test",
                model="tandem-demo",
                name="test",
                kv_tokens=256,
            )
            async with asyncio.timeout(60.0), asyncio.TaskGroup() as tasks:
                tasks.create_task(serve(config, stop))
                await again.wait()
                stop.request()

    asyncio.run(main())
    assert connections >= 2
