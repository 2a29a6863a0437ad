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
from dataclasses import dataclass, field
from typing import Self

import msgspec
import structlog

from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.requests.answer_rules import Expected
from tandem.coordinator.requests.consumer import Consumer
from tandem.coordinator.requests.estimator import Estimator
from tandem.coordinator.requests.failures import Blame, Failures, blame
from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.coordinator.requests.produced import Produced
from tandem.coordinator.requests.relay import RequestStream, open_stream
from tandem.coordinator.requests.trace import Trace
from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.reservation import Reservation
from tandem.errors import TandemError
from tandem.protocol import Delta, Usage

log = structlog.get_logger(__name__)

_REPORT_EVERY_S = 2.0


@dataclass
class Progress:
    """Where a request was sent, and when: the clock's times of the first reservation and token."""

    provider: Provider | None = None
    attempts: int = 0
    reserved_at: float | None = None
    first_at: float | None = None
    #: Unix time of every attempt's reservation.
    reserved: list[float] = field(default_factory=list)
    #: Node ids of who has read it, in order: a set that keeps its order.
    readers: dict[str, None] = field(default_factory=dict)

    def has_reserved(self, provider: Provider, now: float) -> None:
        self.provider = provider
        self.attempts += 1
        self.reserved.append(time.time())
        self.reserved_at = self.reserved_at or now


@dataclass
class _Attempt:
    """A reservation, and the request's stream at its provider once it was sent there."""

    reservation: Reservation
    stream: RequestStream | None = None
    #: Whether it was noted how many tokens the provider counts in the prompts.
    prompt_seen: bool = False

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
        self.reservation.release()


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
        self.progress = Progress()
        #: Called every few seconds while tokens come.
        self.on_progress: Callable[[], None] = lambda: None
        #: Told how many bytes more wait for the consumer, or fewer; may raise a TandemError.
        self.keep: Callable[[int], None] = lambda _: None
        # Another provider must be able to go on with the same draws.
        task = request.task.seeded(secrets.randbits(63))
        self._request = msgspec.structs.replace(request, task=task)
        self._consumer = consumer
        self._config = config
        self._admission = admission
        self._estimator = estimator
        self._clock = clock
        self._deadline = clock() + config.request_timeout_s
        self._produced = Produced(task.choices)
        self._failures = Failures(config.max_retries)
        self._attempt: _Attempt | None = None
        self._ended: RequestStream | None = None
        self._reported_at = clock()

    @property
    def so_far(self) -> Usage:
        """What was delivered until now."""
        return self.usage or self._produced.usage()

    def trace(self, received: float) -> Trace | None:
        """Where the time went of a request that has ended well, and was `received` (Unix time)."""
        stream, reserved = self._ended, self.progress.reserved
        if stream is None or stream.timings is None:
            return None
        return Trace(
            received,
            reserved[0],
            reserved[-1],
            stream.sealed,
            stream.timings,
            stream.answered,
            list(self.progress.readers),
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Delta]:
        while True:
            try:
                attempt = self._attempt or await self._reserve()
                stream = attempt.stream or self._send(attempt)
                deltas = await anext(stream)
            except StopAsyncIteration:
                self._complete()
                raise
            except TandemError as error:
                if self._goes_on_after(error):
                    continue
                if self._produced.complete:  # all that was lost is the provider's goodbye
                    self._complete()
                    raise StopAsyncIteration from None
                raise
            self._take(attempt, stream, deltas)
            return deltas

    def close(self) -> None:
        """Ends the attempt under way, if any; safe to call again."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.close()

    async def _reserve(self) -> _Attempt:
        """Waits for a reservation."""
        demand = self._estimator.demand(
            self._request, self._consumer, produced=self._produced.tokens
        )
        reservation = await self._admission.reserve(
            demand,
            self._consumer.key,
            self._failures.avoid,
            resumes=self.progress.attempts > 0,
        )
        attempt = self._attempt = _Attempt(reservation)
        provider = reservation.provider
        if pause_s := self._failures.pause_s(provider.id):
            await asyncio.sleep(pause_s)
        self.progress.has_reserved(provider, self._clock())
        return attempt

    def _send(self, attempt: _Attempt) -> RequestStream:
        """Sends the request where it has its reservation, or what is left of it."""
        provider, model = attempt.reservation.provider, self._request.model
        self.progress.readers.update(dict.fromkeys(provider.readers))
        attempt.stream = open_stream(
            provider.link,
            model,
            self._request.task.work(self._produced.so_far(), self._consumer.cache_scope),
            expected=Expected.of(self._request, self._produced, provider.models[model]),
            deadline_s=max(0.001, self._deadline - self._clock()),
            window=self._config.window,
            keep=self.keep,
        )
        return attempt.stream

    def _take(self, attempt: _Attempt, stream: RequestStream, deltas: list[Delta]) -> None:
        now = self._clock()
        self._saw_prompt(attempt, stream.prompt_tokens)
        if deltas:
            self.progress.first_at = self.progress.first_at or now
            tokens = sum(len(delta.token_ids) for delta in deltas)
            attempt.reservation.saw_tokens(tokens, prompt_tokens=stream.prompt_tokens)
            self._produced.add(deltas)
            self._failures.clear()
        if now - self._reported_at >= _REPORT_EVERY_S:
            self._reported_at = now
            self.on_progress()

    def _saw_prompt(self, attempt: _Attempt, tokens: int) -> None:
        if attempt.prompt_seen or not tokens:
            return
        attempt.prompt_seen = True
        if not self._produced.saw_prompt(tokens):
            provider_id = attempt.reservation.provider.id
            log.warning("prompt_tokens_differ", provider_id=provider_id, tokens=tokens)

    def _goes_on_after(self, error: TandemError) -> bool:
        """Gives up the failed attempt, if there was one; whether there is to be another."""
        attempt = self._attempt
        if attempt is None:
            return False  # nobody could be found
        provider_id = attempt.reservation.provider.id
        whose = blame(error, asked=attempt.stream is not None)
        if whose is Blame.PROVIDER:
            attempt.reservation.failed()
        elif whose is Blame.NOBODY:
            attempt.reservation.refused()
        self._failures.add(provider_id)
        self.close()
        if whose is Blame.REQUEST or self._produced.complete or not self._failures.may_retry:
            return False
        tokens = self._produced.tokens
        log.info("request_moves", provider_id=provider_id, code=error.code, tokens=tokens)
        return True

    def _complete(self) -> None:
        """Every choice has finished."""
        attempt, self._ended = self._attempt, None
        if attempt is not None:
            if attempt.stream is not None and attempt.stream.usage is not None:
                self._ended = attempt.stream
                self._saw_prompt(attempt, attempt.stream.prompt_tokens)
            attempt.reservation.finished(self._produced.tokens)
        self.usage = self._produced.usage(None if self._ended is None else self._ended.usage)
        self._estimator.learn(
            self._request,
            self._consumer.key,
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
        )
        self.close()
