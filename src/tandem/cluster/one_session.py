"""A session for one purpose: form a cluster, do something with it on rank 0, end it.

What `check` and the benchmark have in common. Both run on every host at the same time; the ranks
above 0 serve until rank 0 has done its work.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from tandem.cluster.config import ClusterConfig
from tandem.cluster.facts import NodeFacts
from tandem.cluster.node import ClusterNode
from tandem.engine import (
    Aborted,
    Completed,
    Engine,
    EngineEvent,
    Executor,
    GenerationRequest,
    ModelSetup,
    Progress,
    SamplingParams,
    load_engine,
    start_engine,
)
from tandem.errors import LinkLost, TandemError
from tandem.link import Channel
from tandem.protocol.cluster import ClusterReport

T = TypeVar("T")

TIMEOUT_S = 600.0

Tokens = list[list[int]]


class Asker:
    """Answers of an engine to several prompts at once; blocks until all are there."""

    def __init__(self) -> None:
        self._events: queue.Queue[EngineEvent] = queue.Queue()
        self.engine: Engine | None = None

    def deliver(self, events: Sequence[EngineEvent]) -> None:
        for event in events:
            self._events.put(event)

    def ask(
        self,
        prompts: Sequence[list[int]],
        tokens: int | Sequence[int],
        *,
        streams: int | None = None,
        temperature: float = 0.0,
        on_first: Callable[[], None] = lambda: None,
    ) -> Tokens:
        """So many ids for each prompt, all at once or `streams` at a time; greedy unless told.

        `on_first` is called at the first token of each.
        Raises what a request fails with.
        """
        assert self.engine is not None, "the engine is started before it is asked"
        answers: Tokens = [[] for _ in prompts]
        wanted = [tokens] * len(prompts) if isinstance(tokens, int) else tokens
        waiting = deque(range(len(prompts)))
        running = 0
        while waiting or running:
            while waiting and running < (streams or len(prompts)):
                index = waiting.popleft()
                asked = _request(str(index), prompts[index], wanted[index], temperature)
                self.engine.submit(asked)
                running += 1
            event = self._events.get(timeout=TIMEOUT_S)
            if isinstance(event, Aborted):
                raise event.error
            if isinstance(event, Completed):
                running -= 1
            if isinstance(event, Progress):
                answer = answers[int(event.request_id)]
                if not answer:
                    on_first()
                for delta in event.deltas:
                    answer += delta.token_ids
        return answers


class Instruments(Protocol):
    """What a benchmark puts around the parts of a session, on each rank, to measure them."""

    def channel(self, channel: Channel) -> Channel: ...

    def executor(self, executor: Executor) -> Executor: ...


def run_alone(setup: ModelSetup, work: Callable[[Asker], T]) -> T:
    """Does the work on the whole model in this process. Blocks."""
    asker = Asker()
    asker.engine = load_engine(setup.options, asker.deliver).engine
    try:
        return work(asker)
    finally:
        asker.engine.close()


async def run_clustered(
    config: ClusterConfig,
    setup: ModelSetup,
    facts: NodeFacts,
    work: Callable[[Asker], T],
    instruments: Instruments | None = None,
) -> tuple[T | None, ClusterReport]:
    """Does the work in a session of its own; None above rank 0, once rank 0 has done it.

    Raises LinkLost with the reason when no session came about, or it broke.
    """
    host = _OneSessionHost(setup, work, instruments)
    wrap = None if instruments is None else instruments.channel
    node = ClusterNode(config, setup, facts, host, wrap)
    running = asyncio.ensure_future(node.run())
    try:
        async with asyncio.timeout(TIMEOUT_S):
            result = await host.result
            report = node.report()
            if report.rank != 0:
                await host.ended.wait()
    except TimeoutError as error:
        raise LinkLost(node.last_end or "the other machine did not come") from error
    finally:
        running.cancel()
        await asyncio.wait([running])
    return result, report


class _OneSessionHost(Generic[T]):
    """Implements `Host` for one session."""

    def __init__(
        self, setup: ModelSetup, work: Callable[[Asker], T], instruments: Instruments | None
    ) -> None:
        self._setup = setup
        self._work = work
        self._instruments = instruments
        self._engine: Engine | None = None
        self.result: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()

    #: Nothing is, here.
    serves_alone = False

    async def release(self) -> None:
        pass

    async def activate(self, executor: Executor | None, blocks: int) -> None:
        if executor is None:
            self._settle(None)
            return
        asker = Asker()
        if self._instruments is not None:
            executor = self._instruments.executor(executor)
        try:
            # A draft model's weights may have to be read.
            loaded = await asyncio.to_thread(
                start_engine, self._setup, executor, blocks, asker.deliver
            )
            asker.engine = self._engine = loaded.engine
            self._settle(await asyncio.to_thread(self._work, asker))
        except TandemError as error:
            if not self.result.done():
                self.result.set_exception(error)

    async def deactivate(self, reason: str) -> None:  # noqa: ARG002 - the interface's
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)
        self.ended.set()

    def _settle(self, result: T | None) -> None:
        if not self.result.done():
            self.result.set_result(result)


def _request(
    request_id: str, prompt: list[int], tokens: int, temperature: float
) -> GenerationRequest:
    return GenerationRequest(
        request_id=request_id,
        prompts=[prompt],
        samples=1,
        params=SamplingParams(max_tokens=tokens, temperature=temperature),
        stop=[],
        ignore_eos=True,
        deadline=time.monotonic() + TIMEOUT_S,
    )
