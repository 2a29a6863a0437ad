"""A real provider with the demonstration model, against a coordinator's side played by the test."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen

from tandem import protocol
from tandem.engine import DeviceFacts, resolve_model
from tandem.engine.backends.pytorch.backend import TorchBackend
from tandem.errors import ConfigurationError
from tandem.protocol import RequestId
from tandem.provider import ProviderConfig, serve
from tandem.runtime import Stop
from tandem.security import (
    RecipientKey,
    ReplyChannel,
    SoftwareKeyVerifier,
    load_or_create_identity,
    new_reply_key,
    request_context,
)

Script = Callable[["Peer"], Awaitable[None]]
MODEL = protocol.ModelName("tandem-demo")


class Peer:
    """The coordinator's end of one connection: it opens what is sealed."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        self._nonce = b"n" * protocol.NONCE_BYTES
        self._requests = 0
        self._replies: dict[RequestId, ReplyChannel] = {}

    async def beat(self) -> protocol.Heartbeat:
        """The next heartbeat, when nothing else is to come."""
        message = protocol.decode_to_coordinator(await self._socket.recv(decode=False))
        assert isinstance(message, protocol.Heartbeat)
        return message

    async def receive(self) -> protocol.ToCoordinator:
        """The next message that is not a heartbeat."""
        async with asyncio.timeout(60.0):
            while True:
                frame = await self._socket.recv(decode=False)
                message = protocol.decode_to_coordinator(bytes(frame))
                if not isinstance(message, protocol.Heartbeat):
                    return message

    async def answer(self) -> tuple[RequestId, protocol.AnswerPart]:
        """The next answer to any request."""
        message = await self.receive()
        assert isinstance(message, protocol.Reply)
        opened = self._replies[message.request_id].open(message.sealed)
        return message.request_id, protocol.decode_answer_part(opened)

    async def send(self, message: protocol.ToProvider) -> None:
        await self._socket.send(protocol.encode(message))

    async def greet(self) -> protocol.Registration:
        """Up to the welcome; checks the provider's proof."""
        hello = await self.receive()
        assert isinstance(hello, protocol.Hello)
        registration = protocol.decode_registration(hello.registration)
        self._key = RecipientKey(registration.sealing_key)
        await self.send(protocol.Challenge(self._nonce))
        proof = await self.receive()
        assert isinstance(proof, protocol.Proof)
        signed = protocol.statement(self._nonce, hello.registration)
        SoftwareKeyVerifier().verify(signed, registration.certificate, proof.evidence)
        await self.send(protocol.Welcome(2, protocol.ProviderId("provider-1"), 0.5))
        return registration

    async def welcome(self) -> protocol.Registration:
        registration = await self.greet()
        async with asyncio.timeout(60.0):
            while True:  # it joins first, and loads its model meanwhile
                message = protocol.decode_to_coordinator(await self._socket.recv(decode=False))
                if isinstance(message, protocol.Heartbeat) and message.ready:
                    return registration

    def sealed(
        self,
        question: str,
        *,
        window: int = 64,
        model: str = MODEL,
        produced: list[int] | None = None,
    ) -> protocol.Request:
        content = protocol.Generate(
            reply_key=new_reply_key(),
            prompts=[protocol.ChatPrompt([protocol.ChatMessage("user", question)])],
            n=1,
            sampling=protocol.Sampling(temperature=0.0),
            produced=[produced] if produced is not None else [],
        )
        return self.seal(content, RequestId(f"request-{question}"), window=window, model=model)

    def seal(
        self, work: protocol.Work, request_id: RequestId, *, window: int = 64, model: str = MODEL
    ) -> protocol.Request:
        context = request_context(self._nonce, self._requests, request_id)
        sealed = self._key.seal(protocol.encode(work), context)
        self._replies[request_id] = ReplyChannel(work.reply_key, request_id)
        self._requests += 1
        return protocol.Request(
            request_id, self._requests - 1, protocol.ModelName(model), 60.0, window, sealed
        )

    async def ask(self, question: str, *, window: int = 64, model: str = MODEL) -> RequestId:
        request = self.sealed(question, window=window, model=model)
        await self.send(request)
        return request.request_id


def run(directory: Path, script: Script, *, model: str = "tandem-demo") -> None:
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
                model=model,
                name="test",
                identity=load_or_create_identity(directory),
                device="cpu",
                threads=1,
                kv_tokens=2048,
                drain_timeout_s=10.0,
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(serve(config, stop))
                await finished
                stop.request()

    asyncio.run(main())


def test_a_request_is_answered_in_chunks(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        registration = await peer.welcome()
        assert [model.name for model in registration.models] == [MODEL]
        await peer.ask("What is 3 + 4?")
        text, prompt_tokens = "", []
        while isinstance(message := (await peer.answer())[1], protocol.Chunk):
            prompt_tokens.append(message.prompt_tokens)
            text += "".join(delta.text for delta in message.deltas)
        assert isinstance(message, protocol.Finished)
        assert text == "3 + 4 = 7."
        assert message.usage.completion_tokens > 0
        assert [n for n in prompt_tokens if n] == [message.usage.prompt_tokens]

    run(tmp_path, script)


@pytest.mark.parametrize("label", ["cpu", "cuda:0 NVIDIA H100"])
def test_the_device_and_its_memory_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    """As the engine names it, in the registration and in every heartbeat."""
    facts = DeviceFacts(label, 80 * 2**30)
    monkeypatch.setattr(TorchBackend, "describe", lambda _self, _device: facts)

    async def script(peer: Peer) -> None:
        hardware = (await peer.welcome()).hardware
        assert (hardware.device, hardware.memory_bytes) == (label, facts.memory_bytes)
        assert (await peer.beat()).device == label

    run(tmp_path, script)


def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    config = ProviderConfig(
        coordinator_url="ws://127.0.0.1:1",
        join_token="join-test",
        model="tandem-demo",
        name="test",
        identity=load_or_create_identity(tmp_path),
        device="cuda:63",
    )
    with pytest.raises(ConfigurationError, match=r"'cuda:63'; available here: auto.*cpu"):
        asyncio.run(serve(config, Stop()))


def test_what_the_engine_cannot_do_is_refused_and_the_next_request_is_served(
    tmp_path: Path,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        work = protocol.Embed(new_reply_key(), [protocol.TextPrompt("Hello!")])
        await peer.send(peer.seal(work, RequestId("vectors")))
        request_id, refusal = await peer.answer()
        assert request_id == "vectors"
        assert isinstance(refusal, protocol.Failed)
        assert (refusal.error.code, refusal.error.param) == ("unsupported_parameter", "model")
        assert MODEL in refusal.error.message
        await peer.ask("What is 3 + 4?")
        assert isinstance((await peer.answer())[1], protocol.Chunk)

    run(tmp_path, script)


def with_template(directory: Path, template: str) -> str:
    """The demonstration model with something before its template."""
    model = directory / MODEL
    shutil.copytree(resolve_model(MODEL), model)
    settings = model / "tokenizer_config.json"
    content = msgspec.json.decode(settings.read_bytes())
    content["chat_template"] = template + content["chat_template"]
    settings.write_bytes(msgspec.json.encode(content))
    return str(model)


def test_a_request_that_the_template_stumbles_over_ends_alone(tmp_path: Path) -> None:
    """Another's stream on the same connection goes on, and so does the provider."""
    model = with_template(
        tmp_path, "{% if 'date' in messages[-1].content %}{{ 'x' + 1 }}{% endif %}"
    )

    async def script(peer: Peer) -> None:
        await peer.welcome()
        stream = await peer.ask("Count to 25.")
        assert (await peer.answer())[0] == stream
        deadly = await peer.ask("What is the date?")
        text, failures = "", []
        while not isinstance((found := await peer.answer())[1], protocol.Finished):
            if isinstance(found[1], protocol.Failed):
                assert found[0] == deadly
                failures.append(found[1].error)
            elif isinstance(found[1], protocol.Chunk):
                text += "".join(delta.text for delta in found[1].deltas)
        assert found[0] == stream
        assert text.endswith("24, 25.")
        (error,) = failures
        assert (error.code, error.param) == ("invalid_request", "messages")
        assert "TypeError" in error.message
        assert error.to_error().status == 400

    run(tmp_path, script, model=model)


def test_a_request_goes_on_where_another_provider_has_left_it(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.ask("Count to 25.")
        tokens: list[int] = []
        texts: list[str] = []
        while isinstance(message := (await peer.answer())[1], protocol.Chunk):
            for delta in message.deltas:
                tokens += delta.token_ids
                texts.append(delta.text)
        cut = len(tokens) // 2
        await peer.send(peer.sealed("Count to 25.", produced=tokens[:cut]))
        rest = ""
        while isinstance(message := (await peer.answer())[1], protocol.Chunk):
            rest += "".join(delta.text for delta in message.deltas)
        assert isinstance(message, protocol.Finished)
        assert message.usage.completion_tokens == len(tokens)
        assert rest
        assert "".join(texts).endswith(rest)

    run(tmp_path, script)


def test_no_more_chunks_are_sent_than_the_window_allows(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        slow = await peer.ask("Count to 25.", window=2)
        chunks = [await peer.answer(), await peer.answer()]
        # A whole other request passes meanwhile: the slow one is stuck, and alone in that.
        await peer.ask("Hello!")
        while not isinstance((found := await peer.answer())[1], protocol.Finished):
            assert found[0] != slow
        await peer.send(protocol.Grant(slow, 100))
        while not isinstance((found := await peer.answer())[1], protocol.Finished):
            chunks.append(found)
        text = ""
        for request_id, chunk in chunks:
            assert isinstance(chunk, protocol.Chunk)
            assert request_id == slow
            text += "".join(delta.text for delta in chunk.deltas)
        assert text == ", ".join(map(str, range(1, 26))) + "."

    run(tmp_path, script)


def test_another_model_is_refused(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.ask("Hello!", model="another")
        _, message = await peer.answer()
        assert isinstance(message, protocol.Failed)
        assert message.error.code == "model_not_found"

    run(tmp_path, script)


def test_a_request_that_is_altered_repeated_or_out_of_turn_is_not_run(tmp_path: Path) -> None:
    """The sealed hop: what is bound to a request cannot be changed around it."""

    async def script(peer: Peer) -> None:
        await peer.welcome()
        good = peer.sealed("Hello!")
        flipped = bytearray(good.sealed)
        flipped[-1] ^= 1
        for bad in (
            msgspec.structs.replace(good, number=good.number + 1),
            msgspec.structs.replace(good, sealed=bytes(flipped)),
        ):
            await peer.send(bad)
            assert await peer.receive() == protocol.Unreadable(good.request_id)
        # The altered one has taken the place of the good one, which is too late now.
        await peer.send(good)
        assert await peer.receive() == protocol.Unreadable(good.request_id)
        await peer.ask("What is 3 + 4?")
        while not isinstance((await peer.answer())[1], protocol.Finished):
            pass
        crossed = peer.sealed("Hello!")
        await peer.send(msgspec.structs.replace(crossed, request_id=RequestId("another")))
        assert await peer.receive() == protocol.Unreadable(RequestId("another"))

    run(tmp_path, script)


def test_a_later_challenge_is_answered(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.send(protocol.Challenge(b"m" * protocol.NONCE_BYTES))
        assert isinstance(await peer.receive(), protocol.Proof)

    run(tmp_path, script)


def test_it_comes_back_after_the_connection_is_lost(tmp_path: Path) -> None:
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
                identity=load_or_create_identity(tmp_path),
                device="cpu",
                kv_tokens=256,
            )
            async with asyncio.timeout(60.0), asyncio.TaskGroup() as tasks:
                tasks.create_task(serve(config, stop))
                await again.wait()
                stop.request()

    asyncio.run(main())
    assert connections >= 2
