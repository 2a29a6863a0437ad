"""A group of ranks in one process: real links over loopback, a thread for each rank above 0."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.links import SESSION, TIMEOUT_S, all_paired, listening

from tandem.cluster.collectives import Rendezvous
from tandem.cluster.strategies import STRATEGIES, RankContext, RankWork, ShardServer
from tandem.engine import (
    Aborted,
    ChoiceDelta,
    Completed,
    Engine,
    EngineEvent,
    EngineOptions,
    Executor,
    GenerationRequest,
    LocalExecutor,
    ModelSetup,
    Prefilling,
    Progress,
    Solo,
    Speculate,
    prepare,
    start_engine,
    whole,
)
from tandem.errors import TandemError
from tandem.link import Channel, LinkCredentials, LinkListener, dial_data
from tandem.protocol.cluster import Collectives, DataHello, Parallelism, Part, Proposal
from tandem.runtime import free_port

BLOCKS = 64


def mesh(
    directory: Path,
    size: int,
    *,
    timeout_s: float = TIMEOUT_S,
    via: Callable[[int], int] = lambda port: port,
) -> list[dict[int, Channel]]:
    """Each rank's channels to all others; rank j dials each i < j, through `via` its port."""
    return asyncio.run(_mesh(all_paired(directory, size), timeout_s, via))


async def _mesh(
    nodes: list[LinkCredentials], timeout_s: float, via: Callable[[int], int]
) -> list[dict[int, Channel]]:
    channels: list[dict[int, Channel]] = [{} for _ in nodes]

    async def open_channels(rank: int, listeners: list[LinkListener]) -> None:
        for lower in range(rank):
            channels[rank][lower] = await asyncio.to_thread(
                dial_data,
                nodes[rank],
                ("127.0.0.1", via(listeners[lower].port)),
                nodes[lower].identity.node_id,
                DataHello(SESSION, rank),
                timeout_s=timeout_s,
            )
        expected = {other: nodes[other].identity.node_id for other in range(rank + 1, len(nodes))}
        channels[rank] |= await listeners[rank].claim(
            SESSION, expected, deadline_s=TIMEOUT_S, timeout_s=timeout_s
        )

    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(listening(node)) for node in nodes]
        await asyncio.gather(*(open_channels(rank, listeners) for rank in range(len(nodes))))
    return channels


def together(work: Callable[[int], None], size: int) -> None:
    """Runs `work(rank)` for all ranks at once; raises the first error."""
    errors: list[BaseException] = []

    def guarded(rank: int) -> None:
        try:
            work(rank)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S * 3)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def close_all(channels: list[dict[int, Channel]]) -> None:
    for mine in channels:
        for channel in mine.values():
            channel.close()


@dataclass
class Ranks:
    """An engine over some executor, and why each shard server ended."""

    engine: Engine
    events: queue.Queue[EngineEvent] = field(default_factory=queue.Queue)
    ended: dict[int, TandemError] = field(default_factory=dict)
    channels: list[dict[int, Channel]] = field(default_factory=list)

    def generate(self, requests: Sequence[GenerationRequest]) -> dict[str, list[list[int]]]:
        """The token ids of each request's choices, all requests at once."""
        tokens: dict[str, dict[int, list[int]]] = {}
        for request in requests:
            choices = len(request.prompts) * request.samples
            tokens[request.request_id] = {index: [] for index in range(choices)}
            self.engine.submit(request)
        unfinished = set(tokens)
        while unfinished:
            event = self.events.get(timeout=TIMEOUT_S * 3)
            if isinstance(event, Aborted):
                raise event.error
            if isinstance(event, Completed):
                unfinished.discard(event.request_id)
                continue
            if isinstance(event, Prefilling):
                continue
            assert isinstance(event, Progress)
            for delta in event.deltas:
                tokens[event.request_id][delta.index] += _ids(delta)
        return {name: [found[i] for i in sorted(found)] for name, found in tokens.items()}


def _ids(delta: ChoiceDelta) -> list[int]:
    return delta.token_ids


@contextmanager
def running(
    checkpoint: Path,
    strategy: str,
    size: int,
    directory: Path,
    *,
    dtype: str = "float32",
    layers: Sequence[int] | None = None,
    speculate: Speculate | Path = Speculate.LOOKUP,
    timeout_s: float = TIMEOUT_S,
    via: Callable[[int], int] = lambda port: port,
) -> Iterator[Ranks]:
    """`strategy` is local, tp or pp; `layers` how many each pipeline stage runs."""
    options = EngineOptions(
        directory=checkpoint, dtype=dtype, device="cpu", threads=1, speculate=speculate
    )
    setup = prepare(options)
    with ExitStack() as stack:
        if strategy == "local":
            stage = setup.backend.load_stage(setup, whole(setup.config), Solo(), BLOCKS)
            group = _start(setup, LocalExecutor(stage))
        else:
            directory.mkdir(exist_ok=True)
            channels = mesh(directory, size, timeout_s=timeout_s, via=via)
            stack.callback(close_all, channels)
            group = _clustered(stack, setup, strategy, channels, layers)
        yield group
        assert group.engine.close()


def _proposal(
    setup: ModelSetup, strategy: str, size: int, layers: Sequence[int] | None
) -> Proposal:
    """A plan as rank 0 would make it, cut where the test says."""
    count = setup.config.num_layers
    kind = Parallelism.PIPELINE if strategy == "pp" else Parallelism.TENSOR
    ends = [count * (rank + 1) // size for rank in range(size)]
    if layers is not None:
        ends = [sum(layers[: rank + 1]) for rank in range(size)]
    if kind is Parallelism.TENSOR:
        parts = [Part(f"node-{rank}", 0, count) for rank in range(size)]
    else:
        starts = [0, *ends[:-1]]
        parts = [Part(f"node-{rank}", starts[rank], ends[rank]) for rank in range(size)]
    block_size = setup.options.block_size
    return Proposal(SESSION, kind, parts, BLOCKS * block_size, block_size, "the test's")


def _clustered(
    stack: ExitStack,
    setup: ModelSetup,
    strategy: str,
    channels: list[dict[int, Channel]],
    layers: Sequence[int] | None,
) -> Ranks:
    proposal = _proposal(setup, strategy, len(channels), layers)
    built = STRATEGIES[proposal.strategy]
    collectives = Collectives.GLOO if strategy == "gloo" else Collectives.SEALED
    meeting = Rendezvous("127.0.0.1", free_port(), "127.0.0.1", TIMEOUT_S)
    executors: list[Executor] = []
    works: dict[int, RankWork] = {}

    def build(rank: int) -> None:
        context = RankContext(setup, proposal, rank, channels[rank], collectives, meeting)
        if rank == 0:
            executors.append(built.build_executor(context))
        else:
            works[rank] = built.build_work(context)

    if collectives is Collectives.GLOO:  # its ranks wait for each other
        together(build, len(channels))
    else:
        for rank in range(len(channels)):
            build(rank)
    group = _start(setup, executors[0])
    group.channels = channels
    for rank, work in works.items():
        server = ShardServer(work, channels[rank][0])

        def serve(rank: int = rank, server: ShardServer = server) -> None:
            group.ended[rank] = server.run()

        thread = threading.Thread(target=serve, name=f"rank-{rank}")
        thread.start()
        stack.callback(thread.join, TIMEOUT_S)
    return group


def _start(setup: ModelSetup, executor: Executor) -> Ranks:
    events: queue.Queue[EngineEvent] = queue.Queue()

    def deliver(batch: Sequence[EngineEvent]) -> None:
        for event in batch:
            events.put(event)

    loaded = start_engine(setup, executor, BLOCKS, deliver)
    return Ranks(loaded.engine, events)
