"""The child processes of `tandem up`: start, watch, restart, stop. No terminal, no files but logs.

One task group holds everything that runs while serving: one task keeps each provider, one watches
the coordinator. Whatever ends that group (a stop, a failure, a deadline), the children are stopped
afterwards in one place and one order: the coordinator first, which admits nothing more and has the
providers finish what they have, then the providers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import msgspec

from tandem.errors import TandemError
from tandem.runtime import (
    COORDINATOR_STOP_TIMEOUT_S,
    PROVIDER_STOP_TIMEOUT_S,
    UP_STOP_TIMEOUT_S,
    Backoff,
    first_failure,
)
from tandem.up.child import Child, ChildFailed, ChildSpec
from tandem.up.events import ChildEvent, Listening, Processes, ProviderReady

#: A provider that lived this long was sound: its next restart is quick again.
_STABLE_AFTER_S = 60.0
#: After SIGKILL only the kernel is waited for.
_KILL_TIMEOUT_S = 10.0


class Reporter(Protocol):
    """What the supervisor tells the person at the terminal."""

    def progress(self, text: str) -> None:
        """What is being waited for."""

    def note(self, text: str) -> None:
        """Something that happened and should stay on the screen."""

    def echo(self, name: str, line: str) -> None:
        """A line of a child's log."""


class LaunchPlan(msgspec.Struct, frozen=True):
    """What to run. The providers' arguments depend on the port that the coordinator got."""

    coordinator: ChildSpec
    providers: Callable[[int], list[ChildSpec]]
    start_timeout_s: float
    verbose: bool
    #: After these they are killed, one after the other; providers have what is left of all, too.
    coordinator_stop_timeout_s: float = COORDINATOR_STOP_TIMEOUT_S
    provider_stop_timeout_s: float = PROVIDER_STOP_TIMEOUT_S
    stop_timeout_s: float = UP_STOP_TIMEOUT_S


class Supervisor:
    def __init__(self, plan: LaunchPlan, reporter: Reporter) -> None:
        self._plan = plan
        self._reporter = reporter
        self._coordinator: Child | None = None
        self._providers: dict[str, Child] = {}

    @property
    def processes(self) -> Processes:
        assert self._coordinator is not None
        return Processes(self._coordinator.pid, [child.pid for child in self._providers.values()])

    async def run(self, stop: asyncio.Event, on_started: Callable[[int], Awaitable[None]]) -> None:
        """Runs until `stop`; raises ChildFailed when it cannot start or the coordinator ends.

        `on_started` gets the coordinator's port once every process says that it is up; it runs
        within the start deadline.
        """
        try:
            async with asyncio.TaskGroup() as pumps:
                try:
                    async with asyncio.TaskGroup() as group:
                        serving = group.create_task(self._serve(pumps, on_started))
                        await stop.wait()
                        serving.cancel()
                finally:
                    await self._stop()
        except BaseExceptionGroup as failures:
            ours = failures.subgroup(TandemError)
            if ours is None:
                raise
            raise first_failure(ours) from failures

    def kill(self) -> None:
        """Ends every child at once; `run` then returns as soon as they are gone."""
        for child in self._all():
            child.kill()

    async def _serve(
        self, pumps: asyncio.TaskGroup, on_started: Callable[[int], Awaitable[None]]
    ) -> None:
        """Starts everything, then lets the group's tasks watch it for as long as it lasts."""
        async with asyncio.TaskGroup() as group:
            try:
                async with asyncio.timeout(self._plan.start_timeout_s):
                    port = await self._start_coordinator(pumps)
                    group.create_task(self._watch_coordinator())
                    await self._start_providers(group, pumps, port)
                    await on_started(port)
            except TimeoutError as error:
                raise ChildFailed(
                    f"not ready after {self._plan.start_timeout_s:g} s:"
                    f" see {self._plan.coordinator.log_path.parent}, or raise --start-timeout"
                ) from error

    async def _start_coordinator(self, pumps: asyncio.TaskGroup) -> int:
        self._reporter.progress("Starting the coordinator")
        self._coordinator = await self._launch(self._plan.coordinator, pumps)
        event = await self._first_event(self._coordinator)
        assert isinstance(event, Listening)
        return event.port

    async def _watch_coordinator(self) -> None:
        assert self._coordinator is not None
        how = await self._coordinator.ended()
        self._show_log(self._coordinator)
        raise ChildFailed(
            f"the coordinator {how}, so everything stops: see {self._coordinator.spec.log_path}"
        )

    async def _start_providers(
        self,
        group: asyncio.TaskGroup,
        pumps: asyncio.TaskGroup,
        port: int,
    ) -> None:
        specs = self._plan.providers(port)
        self._reporter.progress("Loading the model")
        first_starts: list[asyncio.Future[None]] = []
        for spec in specs:
            started = asyncio.get_running_loop().create_future()
            first_starts.append(started)
            group.create_task(self._keep_provider(spec, pumps, started))
        for started in first_starts:
            await started

    async def _keep_provider(
        self,
        spec: ChildSpec,
        pumps: asyncio.TaskGroup,
        started: asyncio.Future[None],
    ) -> None:
        """Starts a provider and, once it has been up, starts it again whenever it ends.

        A first start that fails raises: the operator's options are wrong, or the model does not
        fit, and trying again would hide that.
        """
        child = await self._start_provider(spec, pumps)
        started.set_result(None)
        backoff = Backoff(base_s=0.5, cap_s=30.0)
        clock = asyncio.get_running_loop().time
        while True:
            up_since = clock()
            how = await child.ended()
            if clock() - up_since >= _STABLE_AFTER_S:
                backoff.reset()
            child = await self._restart(spec, pumps, how, backoff)
            self._reporter.note(f"{spec.name} serves again (pid {child.pid}).")

    async def _restart(
        self, spec: ChildSpec, pumps: asyncio.TaskGroup, how: str, backoff: Backoff
    ) -> Child:
        problem = f"{spec.name} {how}"
        while True:
            delay_s = backoff.next_delay_s()
            self._reporter.note(f"{problem}: starting it again in {delay_s:.1f} s.")
            await asyncio.sleep(delay_s)
            try:
                async with asyncio.timeout(self._plan.start_timeout_s):
                    return await self._start_provider(spec, pumps)
            except ChildFailed as failure:
                problem = failure.message
            except TimeoutError:
                problem = f"{spec.name} was not ready after {self._plan.start_timeout_s:g} s"
                self._providers[spec.name].kill()

    async def _start_provider(self, spec: ChildSpec, pumps: asyncio.TaskGroup) -> Child:
        child = self._providers[spec.name] = await self._launch(spec, pumps)
        event = await self._first_event(child)
        assert isinstance(event, ProviderReady)
        return child

    async def _launch(self, spec: ChildSpec, pumps: asyncio.TaskGroup) -> Child:
        echo = partial(self._reporter.echo, spec.name) if self._plan.verbose else None
        child = await Child.start(spec, echo=echo)
        pumps.create_task(child.pump())
        return child

    async def _first_event(self, child: Child) -> ChildEvent:
        try:
            return await child.first_event()
        except ChildFailed:
            self._show_log(child)
            raise

    def _show_log(self, child: Child) -> None:
        if self._plan.verbose:
            return  # its lines are on the screen already
        for line in child.log_tail():
            self._reporter.echo(child.spec.name, line)

    def _all(self) -> list[Child]:
        return [*self._providers.values(), *([self._coordinator] if self._coordinator else [])]

    async def _stop(self) -> None:
        if any(not child.has_ended for child in self._all()):
            self._reporter.progress("Stopping")
        clock = asyncio.get_running_loop().time
        until = clock() + self._plan.stop_timeout_s
        if self._coordinator is not None:
            await self._stop_children([self._coordinator], self._plan.coordinator_stop_timeout_s)
        left_s = max(self._plan.provider_stop_timeout_s, until - clock())
        await self._stop_children(list(self._providers.values()), left_s)

    async def _stop_children(self, children: list[Child], timeout_s: float) -> None:
        """Asks, waits for as long as was agreed, then insists."""
        running = [child for child in children if not child.has_ended]
        for child in running:
            child.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await _all_ended(children)
        except TimeoutError:
            for child in running:
                if not child.has_ended:
                    self._reporter.note(
                        f"{child.spec.name} did not stop in {timeout_s:.2g} s: killed it."
                    )
                    child.kill()
            async with asyncio.timeout(_KILL_TIMEOUT_S):
                await _all_ended(children)
        for child in running:
            if not child.stopped_cleanly:
                self._reporter.note(
                    f"{child.spec.name} {await child.ended()} while stopping:"
                    f" see {child.spec.log_path}"
                )


async def _all_ended(children: list[Child]) -> None:
    for child in children:
        await child.ended()
