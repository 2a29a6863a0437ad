"""Requests of this process from admission to their end: limits, deadline, ledger, drain."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import msgspec
import structlog

from tandem.coordinator.accounts.limits import Lease, Limiter
from tandem.coordinator.accounts.ports import Ledger
from tandem.coordinator.accounts.records import (
    CANCELLED,
    COMPLETED,
    Entry,
    KeyRecord,
    LedgerHealth,
    account_of,
)
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.requests.consumer import Consumer
from tandem.coordinator.requests.estimator import Estimator
from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.coordinator.requests.run import RequestRun
from tandem.coordinator.requests.stuck import ends_when_stuck
from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.registry import Registry
from tandem.errors import (
    InternalError,
    Overloaded,
    RateLimited,
    ServiceStopping,
    TandemError,
)
from tandem.protocol import ModelName, Trust
from tandem.runtime import new_id

log = structlog.get_logger(__name__)

#: One key has at most so many times what is left to others: three quarters, when it is alone.
_SHARE = 3


class Dispatcher:
    def __init__(
        self,
        config: CoordinatorConfig,
        registry: Registry,
        *,
        limiter: Limiter,
        ledger: Ledger,
        on_ended: Callable[[Entry], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_ended` is told of each request when it has ended, whatever became of it."""
        self._config = config
        self._limiter = limiter
        self._ledger = ledger
        self._on_ended = on_ended
        self._clock = clock
        self._admission = Admission(
            registry, max_waiting=config.max_waiting, patience_s=config.patience_s
        )
        self._estimator = Estimator(registry.affinity, registry.largest)
        self._scope_key = secrets.token_bytes(32)
        self._running = 0
        self._of_key: Counter[int | None] = Counter()
        self._stopping = False
        self._given_up = False
        self._ends: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def ledger_health(self) -> LedgerHealth:
        return self._ledger.health

    def waiting(self, model: ModelName, owners: frozenset[str]) -> int:
        """Requests for a model at the machines of these accounts that wait for a reservation."""
        return self._admission.waiting(model, owners)

    @asynccontextmanager
    async def dispatch(
        self, request: InferenceRequest, key: KeyRecord | None, min_trust: Trust = Trust.NONE
    ) -> AsyncIterator[RequestRun]:
        """One request on its way to its end; leaving the context ends it everywhere.

        Raises ServiceStopping, RateLimited, BudgetExhausted or Overloaded, and RequestTimedOut when
        it has not got on for too long; the body of the `async with` has to get on too.
        """
        self._check_admits(key)
        lease = self._hold_tokens(request, key)
        run = RequestRun(
            request,
            Consumer.of(key, min_trust, self._scope_key),
            config=self._config,
            admission=self._admission,
            estimator=self._estimator,
            clock=self._clock,
            allowance=lease,
        )
        with self._accounted(_entry(request, key), lease, run):
            async with self._under_way(run, key), self.until_given_up():
                yield run

    @contextmanager
    def _accounted(self, entry: Entry, lease: Lease | None, run: RequestRun) -> Iterator[None]:
        """Settles the key's tokens, and keeps the request's row in the ledger, until its end."""
        began, outcome = self._clock(), CANCELLED
        run.on_progress = lambda: self._ledger.record(_filled(entry, run))
        try:
            self._ledger.open(entry)
            yield
            outcome = CANCELLED if run.usage is None else COMPLETED
        except TandemError as error:
            outcome = error.code
            if cost := run.progress.given_up_by:
                log.error("request_given_up", request_id=entry.request_id, cost=cost)  # noqa: TRY400
            raise
        except Exception:
            outcome = InternalError.code
            raise
        finally:
            used = run.so_far
            if lease is not None:
                self._limiter.settle(lease, used.prompt_tokens + used.completion_tokens)
            closed = _closed(entry, run, outcome, began, self._clock())
            self._ledger.record(closed)
            self._on_ended(closed)

    @asynccontextmanager
    async def _under_way(self, run: RequestRun, key: KeyRecord | None) -> AsyncIterator[None]:
        """Counts the request, and ends it with RequestTimedOut when it does not get on."""
        whose = None if key is None else key.id
        self._running += 1
        self._of_key[whose] += 1
        self._idle.clear()
        try:
            async with ends_when_stuck(run, self._config.request_timeout_s, self._clock):
                yield
        finally:
            run.close()
            self._running -= 1
            self._of_key[whose] -= 1
            if not self._of_key[whose]:
                del self._of_key[whose]
            if self._running == 0:
                self._idle.set()

    async def drain(self) -> None:
        """Admits nothing more, lets nobody wait; returns when what is under way has ended."""
        self._stopping = True
        self._admission.close()
        await self._idle.wait()

    def give_up(self) -> None:
        """Ends what is still under way with ServiceStopping, which its consumer is told."""
        self._given_up = True
        for end in self._ends:
            end.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def until_given_up(self) -> AsyncIterator[None]:
        """For whatever a request waits for: raises ServiceStopping when all are given up."""
        end = asyncio.timeout(0.0 if self._given_up else None)
        try:
            async with end:
                self._ends.add(end)
                yield
        except TimeoutError as error:
            if not end.expired():
                raise
            raise ServiceStopping("the service stopped before the answer was whole") from error
        finally:
            self._ends.discard(end)

    def _check_admits(self, key: KeyRecord | None) -> None:
        if self._stopping:
            raise ServiceStopping("the service is stopping: retry in a moment")
        free = self._config.max_requests - self._running
        if free <= 0:
            raise Overloaded(f"{self._running} requests are under way, which is the limit")
        if key is not None and self._of_key[key.id] >= _SHARE * free:
            own = self._of_key[key.id]
            raise RateLimited(f"this key has {own} requests under way: what is left is for others")

    def _hold_tokens(self, request: InferenceRequest, key: KeyRecord | None) -> Lease | None:
        if key is None:
            return None
        name = str(key.id)
        # The prompt, and a token of each answer.
        least = self._estimator.prompt_tokens(request, name) + request.task.choices
        return self._limiter.admit(key, self._estimator.tokens(request, name), least=least)


def _entry(request: InferenceRequest, key: KeyRecord | None) -> Entry:
    return Entry(
        request_id=new_id(),
        started_at=datetime.now(UTC),
        key_id=None if key is None else key.id,
        account=account_of(key),
        model=request.model,
    )


def _filled(entry: Entry, run: RequestRun) -> Entry:
    """With what was delivered so far."""
    used, provider = run.so_far, run.progress.provider
    return msgspec.structs.replace(
        entry,
        provider=None if provider is None else provider.name,
        attempts=run.progress.attempts,
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        cached_tokens=used.cached_tokens,
    )


def _closed(entry: Entry, run: RequestRun, outcome: str, began: float, ended: float) -> Entry:
    reserved_at, first_at = run.progress.reserved_at, run.progress.first_at
    return msgspec.structs.replace(
        _filled(entry, run),
        outcome=outcome,
        queue_s=None if reserved_at is None else reserved_at - began,
        first_token_s=None if first_at is None else first_at - began,
        total_s=ended - began,
    )
