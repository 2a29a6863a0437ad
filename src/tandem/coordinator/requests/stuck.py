"""The limit of time of a request that does not get on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tandem.coordinator.requests.run import RequestRun
from tandem.errors import RequestTimedOut, TandemError

#: At so many providers, one after the other, a request may stand still before its time is up.
_PROVIDERS = 3
#: How often is looked whether there is room elsewhere, in the time of one of them.
_LOOKS = 8
#: A timer that is set for less may be due at once, again and again.
_AT_LEAST_S = 0.001


@asynccontextmanager
async def ends_when_stuck(
    run: RequestRun, limit_s: float, clock: Callable[[], float]
) -> AsyncIterator[None]:
    """Raises RequestTimedOut once the run has not moved for so long.

    Before that it is asked of others: a provider can take a request and say nothing of it.

    One timer a request, which looks again when the time could be up: tokens cost it nothing.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal timer
        still_s, patience_s = clock() - run.moved_at, limit_s / _PROVIDERS
        if still_s >= limit_s:
            expiry.reschedule(loop.time())
            return
        if still_s >= patience_s:
            run.leave_if_still(patience_s)
        next_s = min(max(patience_s - still_s, patience_s / _LOOKS), limit_s - still_s)
        timer = loop.call_later(max(next_s, _AT_LEAST_S), look)

    try:
        async with asyncio.timeout(None) as expiry:
            look()
            yield
    except TimeoutError as error:
        raise _timed_out(run, limit_s) from error
    finally:
        if timer is not None:
            timer.cancel()


def _timed_out(run: RequestRun, limit_s: float) -> TandemError:
    """What a provider has refused, and no other had room to look at, is refused.

    One that has had tokens was not waiting for a place: to ask again would do it all again.
    """
    if run.refusal is not None:
        return run.refusal
    error = RequestTimedOut(f"it did not get on for {limit_s:g} s, which is the limit")
    error.retryable = not run.so_far.completion_tokens
    return error
