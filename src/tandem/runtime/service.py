"""One way to run a service process: uvloop, signals, one orderly stop, a forced second one.

The first SIGINT or SIGTERM sets `Stop`; the service then drains by its own deadline and returns.
A second signal ends the process at once. A child of `tandem up` also stops when its standard
input closes, so that no orphan outlives a parent that was killed.

What a service does once `Stop` is set stands in one function of its own, in `coordinator.service`
and in `provider.service`. `tandem up` runs no service, and a second signal must end its children
first: its signals are in `up.service`, the order in which it stops them in `up.supervisor`.

What all parts of a stop may take together stands here: `docker stop` and others kill what has not
ended after ten seconds, and long answers are to end with a word rather than a cut. A coordinator
drains, tells what is left that it stops, and closes; `tandem up` stops its providers after that,
when they have nothing to do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine

import structlog
import uvloop

from tandem.runtime.descriptors import raise_descriptor_limit
from tandem.runtime.garbage import freeze_modules
from tandem.runtime.logging import drain_log

log = structlog.get_logger(__name__)

#: What kills us waits this long.
STOP_LIMIT_S = 10.0
#: What runs may finish, at a coordinator or at a provider.
DRAIN_TIMEOUT_S = 5.0
#: What is left at a coordinator then gets its error event, and connections end.
CLOSE_TIMEOUT_S = 1.0
#: When `tandem up` kills a coordinator, and then a provider: their own limits and some air.
COORDINATOR_STOP_TIMEOUT_S = DRAIN_TIMEOUT_S + CLOSE_TIMEOUT_S + 1.5
PROVIDER_STOP_TIMEOUT_S = 2.0
#: Providers have what the coordinator left of this, if it is more.
UP_STOP_TIMEOUT_S = COORDINATOR_STOP_TIMEOUT_S + PROVIDER_STOP_TIMEOUT_S

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FORCED_EXIT_CODE = 130


class Stop:
    """The request to stop: set once, awaited by everyone who has something to wind down."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def request(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


def run_service(
    main: Callable[[Stop], Awaitable[None]], *, stop_on_stdin_eof: bool = False
) -> None:
    """Runs `main` on uvloop until it returns; it is told to stop through the `Stop` it receives."""

    async def supervised() -> None:
        stop = Stop()
        loop = asyncio.get_running_loop()
        signals = _Signals(stop)
        for signum in _SIGNALS:
            loop.add_signal_handler(signum, signals.receive, signum)
        if stop_on_stdin_eof:
            _watch_stdin(loop, stop)
        await main(stop)

    raise_descriptor_limit()
    freeze_modules()
    uvloop.run(supervised())


async def drain(idle: Coroutine[None, None, None], timeout_s: float) -> None:
    """Waits until what runs has ended, or for as long as it may; what is left is the caller's."""
    try:
        async with asyncio.timeout(timeout_s):
            await idle
    except TimeoutError:
        log.warning("drain_timed_out", timeout_s=timeout_s)


class _Signals:
    """The first one asks; the second one ends. A stop for another reason counts for neither."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._received = False

    def receive(self, signum: signal.Signals) -> None:
        if self._received:
            log.warning("forced_exit", signal=signum.name)
            drain_log()
            os._exit(_FORCED_EXIT_CODE)
        self._received = True
        log.info("stop_requested", signal=signum.name)
        self._stop.request()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: Stop) -> None:
    """Requests a stop at end of file on standard input, read on a daemon thread."""

    stdin = sys.stdin.fileno()

    def wait_for_eof() -> None:
        # Not sys.stdin: its lock, held by a daemon thread, aborts the interpreter's shutdown.
        while os.read(stdin, 1024):
            pass
        try:
            loop.call_soon_threadsafe(stop.request)
        except RuntimeError:
            return  # the loop has ended: there is nothing left to stop

    threading.Thread(target=wait_for_eof, name="stdin-watch", daemon=True).start()
