"""One request's answer, wherever it comes from: the consumer sees one stream of tokens.

A provider that dies, hangs, drains or fails costs the request its reservation, not its life: it
goes on at another provider from its prompt and the tokens that were handed on. That is exact,
because a token depends on the seed, its position and the tokens before it, not on who computes it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import msgspec
import structlog

from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.requests.answer_rules import Expected
from tandem.coordinator.requests.consumer import Consumer
from tandem.coordinator.requests.estimator import Estimator
from tandem.coordinator.requests.failures import Blame, Failures, blame, may_be_deadly
from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.coordinator.requests.meter import Allowance, Meter
from tandem.coordinator.requests.produced import Produced
from tandem.coordinator.requests.relay import RequestStream, open_stream
from tandem.coordinator.requests.suspicion import Suspicion, Verdict
from tandem.coordinator.requests.trace import Progress, Trace
from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.reservation import Reservation
from tandem.errors import ProviderLost, RequestGivenUp, RequestTimedOut, TandemError
from tandem.protocol import Delta, FinishReason, Usage

log = structlog.get_logger(__name__)

_REPORT_EVERY_S = 2.0
#: As a deadline on the wire: none. The coordinator ends what takes too long, and says so.
_NO_LIMIT_S = 30 * 86_400.0
#: After its limit a request ends here first.
_GRACE_S = 10.0
#: For a provider's last word, once every choice has finished.
_GOODBYE_S = 10.0
#: Whoever is lost together with a provider is lost by then.
_SETTLES_S = 0.25
_LOOK_EVERY_S = 0.25


@dataclass
class _Attempt:
    """A reservation, and the request's stream at its provider once it was sent there."""

    reservation: Reservation
    stream: RequestStream | None = None
    #: Whether it was noted how many tokens the provider counts in the prompts.
    prompt_seen: bool = False
    #: How often the stream had got on when that was last looked at.
    steps_seen: int = 0
    #: How many tokens it has brought.
    tokens: int = 0
    #: The choices that were asked for, once they were, and when: monotonic seconds.
    turn: frozenset[int] = frozenset()
    sent_at: float = 0.0

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
        self.reservation.release()


class RequestRun:
    """An async iterator of batches of deltas; `usage` is set once it has ended well.

    A batch may be empty: the provider is getting on. `close` ends what still runs; it is the
    dispatcher's to call.
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
        allowance: Allowance | None = None,
    ) -> None:
        """`allowance` is what the request may use, None without an end."""
        self.usage: Usage | None = None
        self.progress = Progress()
        #: Called every few seconds while tokens come.
        self.on_progress: Callable[[], None] = lambda: None
        #: Told how many bytes more wait for the consumer, or fewer; may raise a TandemError.
        self.keep: Callable[[int], None] = lambda _: None
        #: When the request last got on, by the clock: was admitted, heard of, or read from.
        self.moved_at = clock()
        # Another provider must be able to go on with the same draws.
        task = request.task.seeded(secrets.randbits(63))
        self._request = msgspec.structs.replace(request, task=task)
        self._consumer = consumer
        self._config = config
        self._admission = admission
        self._estimator = estimator
        self._clock = clock
        limit_s = config.request_limit_s
        self._limit_at = None if limit_s is None else clock() + limit_s
        self._produced = Produced(task.choices)
        self._meter = Meter(allowance)
        self._failures = Failures()
        self._suspicion = Suspicion(
            admission.losses, control_s=config.control_s, enough=config.given_up_odds
        )
        self._attempt: _Attempt | None = None
        #: Whether it lost its place, rather than waiting for its first or its next turn.
        self._moves = False
        self._ended: RequestStream | None = None
        self._reported_at = clock()

    @property
    def so_far(self) -> Usage:
        """What was delivered until now."""
        return self.usage or self._produced.usage()

    @property
    def refusal(self) -> TandemError | None:
        """What a provider has against the request, since the last token."""
        return self._failures.refusal

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
        self.moved_at = self._clock()  # what came before was taken
        if self._limit_at is None:
            return await self._next()
        try:
            async with asyncio.timeout(self._limit_at - self._clock()):
                return await self._next()
        except TimeoutError:
            return self._cut_short()

    def close(self) -> None:
        """Ends the attempt under way, if any; safe to call again."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.close()

    def leave_if_still(self, for_s: float) -> None:
        """Goes on elsewhere, where there is room, if its provider sends nothing for so long.

        One that says that it works gets twice as long.
        """
        attempt = self._attempt
        if attempt is None or attempt.stream is None or not attempt.stream.is_dry:
            return
        still_s = self._clock() - max(self.moved_at, attempt.sent_at)
        provider = attempt.reservation.provider
        if still_s < for_s * (2 if provider.says_it_works else 1):
            return
        if self._admission.has_room(self._demand(), {provider.machine}):
            attempt.stream.fail(ProviderLost("the provider does nothing about the request"))

    async def _next(self) -> list[Delta]:
        while not self._produced.complete or self._attempt is not None:
            try:
                attempt = self._attempt or await self._reserve()
                stream = attempt.stream or self._send(attempt)
                deltas = await self._receive(stream)
            except StopAsyncIteration:
                if self._end_turn():
                    break
                continue
            except TandemError as error:
                if (ends := self._ends_with(error)) is not None:
                    raise ends from None
                continue
            return self._take(attempt, stream, deltas)
        self._complete()
        raise StopAsyncIteration

    async def _receive(self, stream: RequestStream) -> list[Delta]:
        attempt = self._attempt
        assert attempt is not None, "a stream is of an attempt"
        if not self._produced.has_ended(attempt.turn):
            return await anext(stream)
        try:
            async with asyncio.timeout(_GOODBYE_S):
                return await anext(stream)
        except TimeoutError:
            raise ProviderLost("the provider does not end what it has finished") from None

    async def _reserve(self) -> _Attempt:
        """Waits for a reservation. One that had its place already waits as long as it may."""
        demand = self._demand()
        if self._suspicion.alone:
            await self._until_cleared(demand)
        reservation = await self._admission.reserve(
            msgspec.structs.replace(demand, alone=self._suspicion.alone),
            self._consumer.key,
            self._failures.avoid,
            resumes=self._moves,
        )
        attempt = self._attempt = _Attempt(reservation)
        provider = reservation.provider
        if pause_s := self._failures.pause_s(provider.id):
            await asyncio.sleep(pause_s)
        if not self._moves:
            self.moved_at = self._clock()
        turns = self.progress.attempts > 0 and not self._moves
        self.progress.has_reserved(provider, self._clock(), turns=turns)
        self._moves = False
        return attempt

    def _demand(self) -> Demand:
        """Of what is left of it."""
        return self._estimator.demand(
            self._request,
            self._consumer,
            produced=self._produced.tokens,
            sequences=len(self._produced.unfinished) or None,
        )

    async def _until_cleared(self, demand: Demand) -> None:
        """Waits until providers have lived or died without it. Raises RequestGivenUp."""
        await asyncio.sleep(_SETTLES_S)
        while not self._admission.is_closed:
            verdict = self._suspicion.verdict(self._clock(), self._admission.sound_for_s(demand))
            if verdict is Verdict.GOES_ON:
                return
            if verdict is Verdict.GUILTY:
                self.progress.given_up_by = self._suspicion.providers
                raise RequestGivenUp(
                    "the request has cost several providers, each while it was being begun there,"
                    " so it is not tried again"
                )
            await asyncio.sleep(_LOOK_EVERY_S)

    def _send(self, attempt: _Attempt) -> RequestStream:
        """Sends the request where it has its reservation, or what is left of it."""
        provider, model = attempt.reservation.provider, self._request.model
        self.progress.readers.update(dict.fromkeys(provider.readers))
        limit_at = self._limit_at
        now = attempt.sent_at = self._clock()
        task = self._request.task
        prompt_tokens = self._estimator.prompt_tokens(self._request, self._consumer.key)
        most = self._meter.most_output(task.most_output, self._produced, prompt_tokens)
        turn = attempt.turn = self._produced.next_turn(attempt.reservation.sequences)
        so_far = self._produced.so_far(turn)
        attempt.stream = open_stream(
            provider.link,
            model,
            task.at_most(most).work(so_far, self._consumer.cache_scope),
            expected=Expected.of(self._request, self._produced, turn, provider.models[model]),
            deadline_s=_NO_LIMIT_S if limit_at is None else max(0.0, limit_at - now) + _GRACE_S,
            window=self._config.window,
            keep=self.keep,
        )
        return attempt.stream

    def _take(self, attempt: _Attempt, stream: RequestStream, deltas: list[Delta]) -> list[Delta]:
        """What is to be delivered of what has come. Raises BudgetExhausted for a prompt."""
        now = self._clock()
        self._saw_prompt(attempt, stream.prompt_tokens)
        deltas = self._meter.deliverable(deltas)
        if deltas:
            self._take_tokens(attempt, stream, deltas, now)
        if stream.steps > attempt.steps_seen and (deltas or self._failures.are_few):
            self.moved_at = now
        attempt.steps_seen = stream.steps
        if now - self._reported_at >= _REPORT_EVERY_S:
            self._reported_at = now
            self.on_progress()
        return [*deltas, *self._end_as_it_is()] if self._meter.exhausted else deltas

    def _take_tokens(
        self, attempt: _Attempt, stream: RequestStream, deltas: list[Delta], now: float
    ) -> None:
        self.progress.first_at = self.progress.first_at or now
        tokens = sum(len(delta.token_ids) for delta in deltas)
        attempt.tokens += tokens
        attempt.reservation.saw_tokens(tokens, prompt_tokens=stream.prompt_tokens)
        self._produced.add(deltas)
        self._failures.clear()
        self._suspicion.clear()

    def _saw_prompt(self, attempt: _Attempt, tokens: int) -> None:
        if attempt.prompt_seen or not tokens:
            return
        attempt.prompt_seen = True
        self._meter.take_prompt(tokens)
        if not self._produced.saw_prompt(tokens):
            provider_id = attempt.reservation.provider.id
            log.warning("prompt_tokens_differ", provider_id=provider_id, tokens=tokens)

    def _ends_with(self, error: TandemError) -> TandemError | None:
        """Gives up the failed attempt, if there was one; the request's end, if this is it."""
        attempt = self._attempt
        if attempt is None:
            return error  # nobody could be found
        provider = attempt.reservation.provider
        asked = attempt.stream is not None
        whose = blame(error, asked=asked)
        if whose is Blame.PROVIDER:
            attempt.reservation.failed()
        elif whose is Blame.NOBODY:
            attempt.reservation.refused()
        if asked and not attempt.tokens and may_be_deadly(error):
            self._suspicion.strike(self._admission.loss_of(provider), since=attempt.sent_at)
        self._failures.add(provider.id)
        self._moves = True
        self.close()
        if self._produced.complete:
            return None  # all that was lost is the provider's goodbye
        if whose is Blame.REQUEST and (ends := self._refused(attempt, error)) is not None:
            return ends
        tokens = self._produced.tokens
        log.info("request_moves", provider_id=provider.id, code=error.code, tokens=tokens)
        return None

    def _refused(self, attempt: _Attempt, error: TandemError) -> TandemError | None:
        """The request's end when several providers say so, or there is no other to ask.

        So no single provider can refuse what others would do.
        """
        failures = self._failures
        failures.refuse(attempt.reservation.provider.machine, error)
        demand = self._estimator.demand(self._request, self._consumer)
        if not failures.are_agreed and self._admission.has_other(demand, failures.refused_by):
            return None
        if self._produced.tokens and not attempt.tokens:  # what is refused is another's doing
            return ProviderLost("nobody can go on from what a provider sent before it was lost")
        return failures.refusal

    def _cut_short(self) -> list[Delta]:
        """The limit is reached: what has come is the answer. Raises RequestTimedOut for nothing."""
        self.close()
        if self._produced.complete:
            self._complete()
            raise StopAsyncIteration
        if not self._produced.tokens:
            raise RequestTimedOut(
                f"no token came within {self._config.request_limit_s:g} s, which is the limit"
            )
        return self._end_as_it_is()

    def _end_as_it_is(self) -> list[Delta]:
        """The ends of all choices that still run: what was delivered is the answer."""
        self.close()
        ends = [
            Delta(index, "", [], finish=FinishReason.LENGTH) for index in self._produced.unfinished
        ]
        self._produced.add(ends)
        return ends

    def _end_turn(self) -> bool:
        """What was asked for has come; whether that was all of it, and not a turn among several."""
        attempt = self._attempt
        assert attempt is not None, "it has just ended"
        if attempt.stream is not None:
            self._ended = attempt.stream
            self._saw_prompt(attempt, attempt.stream.prompt_tokens)
        attempt.reservation.finished(attempt.tokens)
        self.close()
        return not self._produced.unfinished

    def _complete(self) -> None:
        """Every choice has finished."""
        self.usage = self._produced.usage(None if self._ended is None else self._ended.usage)
        self._estimator.learn(
            self._request,
            self._consumer.key,
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
        )
        self.close()
