"""One request's answer, wherever it comes from: the consumer sees one stream of tokens.

A provider that dies, hangs, drains or fails costs the request its reservation, not its life: it
goes on at another provider from its prompt and the tokens that were handed on. That is exact,
because a token depends on the seed, its position and the tokens before it, not on who computes it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Self

import msgspec
import structlog

from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.requests.estimator import Estimator
from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.coordinator.requests.produced import Produced
from tandem.coordinator.requests.relay import RequestStream, open_stream
from tandem.coordinator.requests.trace import Trace
from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.reservation import Reservation
from tandem.errors import (
    ModelNotFound,
    NoProviderAvailable,
    Overloaded,
    RequestTimedOut,
    ServiceStopping,
    TandemError,
)
from tandem.protocol import Delta, ProviderId, Trust, Usage

log = structlog.get_logger(__name__)

#: A provider's way of saying "not now": no fault of its own, nor of the request.
_NOT_NOW = (Overloaded, ServiceStopping, NoProviderAvailable)
_FIRST_PAUSE_S = 0.05
_REPORT_EVERY_S = 2.0


class Consumer(msgspec.Struct, frozen=True):
    """For whom a request is: whose turn in the queue it takes, and whom it trusts."""

    key: str = ""
    min_trust: Trust = Trust.NONE


class RequestRun:
    """An async iterator of batches of deltas; `usage` is set once it has ended well.

    `close` ends what still runs; it is the dispatcher's to call.
    """

    def __init__(
        self,
        request: InferenceRequest,
        consumer: Consumer,
        *,
        config: CoordinatorConfig,
        admission: Admission,
        estimator: Estimator,
        clock: Callable[[], float],
    ) -> None:
        self.usage: Usage | None = None
        #: Called every few seconds while tokens come.
        self.on_progress: Callable[[], None] = lambda: None
        self.provider: Provider | None = None
        self.attempts = 0
        #: The clock's times of the first reservation and the first token.
        self.reserved_at: float | None = None
        self.first_at: float | None = None
        # Another provider must be able to go on with the same draws.
        task = request.task.seeded(secrets.randbits(63))
        self._request = msgspec.structs.replace(request, task=task)
        self._consumer = consumer
        self._config = config
        self._admission = admission
        self._estimator = estimator
        self._clock = clock
        self._reserved: list[float] = []  # Unix time, of every attempt
        self._ended: RequestStream | None = None
        self._deadline = clock() + config.request_timeout_s
        self._produced = Produced(task.choices)
        self._reported_at = clock()
        self._prompt_tokens = 0
        self._reservation: Reservation | None = None
        self._stream: RequestStream | None = None
        self._failures = 0  # since the last token
        self._avoid: set[ProviderId] = set()

    @property
    def so_far(self) -> Usage:
        """What was delivered until now."""
        return self.usage or Usage(self._prompt_tokens, self._produced.tokens, 0)

    def trace(self, received: float) -> Trace | None:
        """Where the time went of a request that has ended well, and was `received` (Unix time)."""
        stream = self._ended
        if stream is None or stream.timings is None:
            return None
        first, last = self._reserved[0], self._reserved[-1]
        return Trace(received, first, last, stream.sealed, stream.timings, stream.answered)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Delta]:
        while True:
            try:
                stream = self._stream or await self._begin()
                deltas = await anext(stream)
            except StopAsyncIteration:
                self._complete()
                raise
            except TandemError as error:
                if self._survives(error):
                    continue
                if self._produced.complete:  # all that was lost is the provider's goodbye
                    self._complete()
                    raise StopAsyncIteration from None
                raise
            self._take(stream, deltas)
            return deltas

    def close(self) -> None:
        """Ends the attempt under way, if any; safe to call again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._reservation is not None:
            self._reservation.release()
            self._reservation = None

    async def _begin(self) -> RequestStream:
        """Waits for a reservation and sends the request there, or what is left of it."""
        demand = self._estimator.demand(
            self._request, produced=self._produced.tokens, min_trust=self._consumer.min_trust
        )
        resumes = self.attempts > 0
        reservation = self._reservation = await self._admission.reserve(
            demand, self._consumer.key, self._avoid, resumes=resumes
        )
        if reservation.provider.id in self._avoid:
            await asyncio.sleep(_FIRST_PAUSE_S * 2.0**self._failures)  # it has just refused
        self.attempts += 1
        self._reserved.append(time.time())
        self.provider = reservation.provider
        now = self._clock()
        self.reserved_at = self.reserved_at or now
        self._stream = open_stream(
            reservation.provider.link,
            self._request.model,
            self._request.task.work(self._produced.so_far()),
            deadline_s=max(0.001, self._deadline - now),
            window=self._config.window,
        )
        return self._stream

    def _take(self, stream: RequestStream, deltas: list[Delta]) -> None:
        assert self._reservation is not None
        self.first_at = self.first_at or self._clock()
        self._reservation.saw_first_token(stream.prompt_tokens)
        self._prompt_tokens = self._prompt_tokens or stream.prompt_tokens
        self._produced.add(deltas)
        self._failures = 0
        self._avoid.clear()
        now = self._clock()
        if now - self._reported_at >= _REPORT_EVERY_S:
            self._reported_at = now
            self.on_progress()

    def _survives(self, error: TandemError) -> bool:
        """Gives up the failed attempt; whether there is to be another."""
        reservation, asked = self._reservation, self._stream is not None
        if reservation is None:
            return False  # nobody could be found
        ours = _is_consumers(error)
        if not ours and asked and not isinstance(error, _NOT_NOW):
            reservation.failed()
        self._avoid.add(reservation.provider.id)
        self.close()
        self._failures += 1
        if ours or self._produced.complete or self._failures > self._config.max_retries:
            return False
        log.info(
            "request_moves",
            provider_id=reservation.provider.id,
            code=error.code,
            tokens=self._produced.tokens,
        )
        return True

    def _complete(self) -> None:
        """Every choice has finished."""
        stream, reservation = self._stream, self._reservation
        cached = 0
        if stream is not None and stream.usage is not None:
            self._prompt_tokens = stream.usage.prompt_tokens
            cached = min(stream.usage.cached_tokens, self._prompt_tokens)
            self._ended = stream
        self.usage = Usage(self._prompt_tokens, self._produced.tokens, cached)
        if reservation is not None:
            reservation.finished(self._produced.tokens)
        self._estimator.learn(
            self._request,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._produced.tokens,
        )
        self.close()


def _is_consumers(error: TandemError) -> bool:
    """Whether another provider would say the same: the request is wrong, or its time is up."""
    if isinstance(error, ModelNotFound):
        return False  # the provider has not what it said it had
    return isinstance(error, RequestTimedOut) or 400 <= error.status < 429
