"""Runs a coordinator's requests on the engine and gives back what comes out, within the window.

Lives on the event loop; the engine's events are handed over from its thread. A request out of
credit sends nothing until a grant comes: `protocol.SendWindow` joins its deltas meanwhile, and the
coordinator's `ReceiveWindow` is the other end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from tandem import engine, protocol
from tandem.errors import (
    InternalError,
    ModelNotFound,
    NoProviderAvailable,
    Overloaded,
    TandemError,
    UnsupportedParameter,
)
from tandem.provider.translate import delta, prompt_text, sampling_params

log = structlog.get_logger(__name__)

Send = Callable[[protocol.AnswerPart], None]

#: Requests that a provider holds at once, waiting ones included.
MAX_REQUESTS = 1024


@dataclass(eq=False)
class _Stream:
    send: Send
    window: protocol.SendWindow
    received: float
    submitted: float = 0.0
    first_token: float = 0.0
    prompt_tokens: int = 0
    #: What was last said of its prompts.
    prefilled: int = 0
    finished: protocol.Finished | None = None
    #: Its prompts on their way to tokens.
    encoding: Future[list[list[int]]] | None = None


class RequestRunner:
    """The requests of one provider, on whatever engine it has at the moment."""

    def __init__(
        self,
        encoder: engine.PromptEncoder,
        served: protocol.ModelName,
        sampling: engine.SamplingDefaults,
    ) -> None:
        self._encoder = encoder
        self._served = served
        self._sampling = sampling
        self._engine: engine.Engine | None = None
        self._streams: dict[protocol.RequestId, _Stream] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        #: Requests since the start, and those of them that ended in an error.
        self.started = 0
        self.failed = 0

    def attach(self, running: engine.Engine) -> None:
        self._engine = running
        self._encoder.start()

    def detach(self) -> None:
        """Takes nothing more. What runs ends when its engine does."""
        self._engine = None

    async def wait_idle(self) -> None:
        await self._idle.wait()

    async def start(
        self, request: protocol.Request, asked: protocol.Work, send: Send, received: float
    ) -> None:
        """Begins a request that was `received` (Unix time); a refusal is sent as Failed."""
        self.started += 1
        try:
            wanted = self._accept(request, asked)
        except TandemError as error:
            self.failed += 1
            send(protocol.Failed(protocol.ErrorInfo.of(error)))
            return
        stream = _Stream(send, protocol.SendWindow(request.window), received)
        self._streams[request.request_id] = stream
        self._idle.clear()
        deadline = time.monotonic() + request.deadline_s
        try:
            prompts = await self._encode(wanted, stream)
            if self._streams.get(request.request_id) is stream:  # not cancelled meanwhile
                stream.prompt_tokens = sum(map(len, prompts))
                stream.submitted = time.time()
                self._submit(request.request_id, wanted, prompts, deadline)
                self._say_accepted(stream)
        # Whatever a request's text or parameters do to us ends that request, and nobody else's.
        except Exception as error:  # noqa: BLE001
            refusal = _typed(error)
            if refusal.param == "prompt":
                refusal.param = protocol.field_of(wanted.prompts[0])
            self._fail(request.request_id, refusal)

    def _accept(self, request: protocol.Request, asked: protocol.Work) -> protocol.Generate:
        """What the engine is to do; raises the reason why it will not."""
        if len(self._streams) >= MAX_REQUESTS:
            raise Overloaded(f"this provider holds {MAX_REQUESTS} requests; retry later")
        if request.model != self._served:
            raise ModelNotFound(
                f"this provider serves {self._served}, not {request.model}", param="model"
            )
        if isinstance(asked, protocol.Embed):
            raise UnsupportedParameter(
                f"model: `{request.model}` generates text here, and makes no embeddings",
                param="model",
            )
        if self._engine is None:
            raise NoProviderAvailable("this provider has no model loaded just now")
        return asked

    def grant(self, message: protocol.Grant) -> None:
        stream = self._streams.get(message.request_id)
        if stream is not None:
            stream.window.grant(message.chunks)
            self._flush(message.request_id, stream)

    def cancel(self, request_id: protocol.RequestId) -> None:
        if self._forget(request_id) and self._engine is not None:
            self._engine.cancel(request_id)

    def cancel_all(self) -> None:
        """The coordinator is gone, and with it everybody who waits."""
        for request_id in tuple(self._streams):
            self.cancel(request_id)

    def on_events(self, events: Sequence[engine.EngineEvent]) -> None:
        for event in events:
            request_id = protocol.RequestId(event.request_id)
            stream = self._streams.get(request_id)
            if stream is None:
                continue  # cancelled while the event was on its way
            try:
                self._take(request_id, stream, event)
            # As in `start`: what one answer cannot be made of is that request's failure.
            except Exception as error:  # noqa: BLE001
                self._fail(request_id, _typed(error))
                if self._engine is not None:
                    self._engine.cancel(request_id)

    def _take(
        self, request_id: protocol.RequestId, stream: _Stream, event: engine.EngineEvent
    ) -> None:
        if isinstance(event, engine.Aborted):
            self._fail(request_id, event.error)
            return
        if isinstance(event, engine.Prefilling):
            self._say_prefilled(stream, event.tokens)
            return
        if isinstance(event, engine.Progress):
            stream.first_token = stream.first_token or time.time()
            stream.window.add(map(delta, event.deltas))
        else:
            stream.finished = _finished(stream, event)
        self._flush(request_id, stream)

    async def _encode(self, asked: protocol.Generate, stream: _Stream) -> list[list[int]]:
        """Token ids of the prompts, in a process of their own where they have none yet."""
        if self._engine is None:
            raise NoProviderAvailable("this provider has no model loaded just now")
        texts = [text for prompt in asked.prompts if (text := prompt_text(prompt)) is not None]
        stream.encoding = self._encoder.encode(texts, self._engine.limits.tokens)
        encoded = await asyncio.wrap_future(stream.encoding)
        tokens = iter(encoded)
        return [
            prompt.token_ids if isinstance(prompt, protocol.TokenPrompt) else next(tokens)
            for prompt in asked.prompts
        ]

    def _submit(
        self,
        request_id: protocol.RequestId,
        asked: protocol.Generate,
        prompts: list[list[int]],
        deadline: float,
    ) -> None:
        if self._engine is None:
            raise NoProviderAvailable("this provider has no model loaded just now")
        self._engine.submit(
            engine.GenerationRequest(
                request_id=request_id,
                prompts=prompts,
                samples=asked.n,
                params=sampling_params(asked.sampling, self._sampling),
                stop=asked.sampling.stop,
                ignore_eos=asked.sampling.ignore_eos,
                deadline=deadline,
                produced=asked.produced,
                cache_scope=asked.cache_scope,
            )
        )

    def _say_accepted(self, stream: _Stream) -> None:
        """The engine has the request: the consumer's stream can begin, its first token may take."""
        if stream.window.take_empty():
            stream.send(protocol.Chunk([], stream.prompt_tokens))
            stream.prompt_tokens = 0  # said once

    def _say_prefilled(self, stream: _Stream, tokens: int) -> None:
        """More than was said, and before the first token: what is computed again is no news."""
        if stream.first_token or tokens <= stream.prefilled or not stream.window.take_empty():
            return
        stream.send(protocol.Chunk([], stream.prompt_tokens, tokens))
        stream.prompt_tokens, stream.prefilled = 0, tokens

    def _flush(self, request_id: protocol.RequestId, stream: _Stream) -> None:
        while deltas := stream.window.take():
            stream.send(protocol.Chunk(deltas, stream.prompt_tokens))
            stream.prompt_tokens = 0  # said once
        if stream.window.blocked:
            return
        if stream.finished is not None:
            stream.send(stream.finished)
            self._forget(request_id)

    def _fail(self, request_id: protocol.RequestId, error: TandemError) -> None:
        stream = self._streams.get(request_id)
        if stream is not None:
            log.info("request_failed", request_id=request_id, code=error.code)
            self.failed += 1
            stream.send(protocol.Failed(protocol.ErrorInfo.of(error)))
            self._forget(request_id)

    def _forget(self, request_id: protocol.RequestId) -> bool:
        stream = self._streams.pop(request_id, None)
        if not self._streams:
            self._idle.set()
        if stream is not None and stream.encoding is not None:
            stream.encoding.cancel()  # nobody waits for it, if it has not begun
        return stream is not None


def _finished(stream: _Stream, event: engine.Completed) -> protocol.Finished:
    timings = protocol.Timings(stream.received, stream.submitted, stream.first_token, time.time())
    usage = protocol.Usage(event.prompt_tokens, event.completion_tokens, event.cached_tokens)
    return protocol.Finished(usage, timings)


def _typed(error: Exception) -> TandemError:
    """What the consumer is told of a failure; of a defect only the log has the whole."""
    if isinstance(error, TandemError):
        return error
    log.error("request_broke", error=type(error).__name__, exc_info=error)
    return InternalError("the provider failed on this request; its log has the reason")
