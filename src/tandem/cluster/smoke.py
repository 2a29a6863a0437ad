"""A check of a real cluster: the same answers from one process, tensor parallel, and pipeline.

Runs on every host at the same time. Each strategy is a phase with a session of its own; rank 0
compares and judges, the others serve their rank until it is done.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Sequence

import msgspec

from tandem.cluster.config import ClusterConfig
from tandem.cluster.facts import NodeFacts, measure_node
from tandem.cluster.node import ClusterNode
from tandem.engine import (
    Aborted,
    Completed,
    Engine,
    EngineEvent,
    Executor,
    GenerationRequest,
    Message,
    ModelSetup,
    Progress,
    SamplingParams,
    load_engine,
    start_engine,
)
from tandem.errors import LinkLost, TandemError
from tandem.protocol.between_nodes import Parallelism

_PHASES = (Parallelism.TENSOR, Parallelism.PIPELINE)
_QUESTIONS = ("Hello!", "What is 3 + 4?", "Count to 25.")
_TOKENS = 24
_PHASE_TIMEOUT_S = 180.0

Tokens = list[list[int]]


class Check(msgspec.Struct, frozen=True):
    """One line of the verdict; `passed` None on a rank that does not judge."""

    name: str
    passed: bool | None
    detail: str


class _Questioner:
    """An engine's answers to the questions, asked all at once."""

    def __init__(self) -> None:
        self._events: queue.Queue[EngineEvent] = queue.Queue()

    def deliver(self, events: Sequence[EngineEvent]) -> None:
        for event in events:
            self._events.put(event)

    def ask(self, engine: Engine) -> Tokens:
        """Blocks. Raises what a request fails with."""
        for number, question in enumerate(_QUESTIONS):
            prompt = engine.tokenizer.encode_chat([Message("user", question)])
            engine.submit(
                GenerationRequest(
                    request_id=str(number),
                    prompts=[prompt],
                    samples=1,
                    params=SamplingParams(max_tokens=_TOKENS, temperature=0.0),
                    stop=[],
                    ignore_eos=True,
                    deadline=time.monotonic() + _PHASE_TIMEOUT_S,
                )
            )
        answers: Tokens = [[] for _ in _QUESTIONS]
        left = len(_QUESTIONS)
        while left:
            event = self._events.get(timeout=_PHASE_TIMEOUT_S)
            if isinstance(event, Aborted):
                raise event.error
            if isinstance(event, Progress):
                answers[int(event.request_id)] += event.deltas[0].token_ids
            left -= isinstance(event, Completed)
        return answers


class _PhaseHost:
    """Implements `Host` for one phase: asks on rank 0, and waits elsewhere."""

    def __init__(self, setup: ModelSetup) -> None:
        self._setup = setup
        self._engine: Engine | None = None
        self.answers: asyncio.Future[Tokens | None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()

    async def release(self) -> None:
        """Nothing is served alone here."""

    async def activate(self, executor: Executor | None, blocks: int) -> None:
        if executor is None:
            self._settle(None)
            return
        questioner = _Questioner()
        loaded = start_engine(self._setup, executor, blocks, questioner.deliver)
        self._engine = loaded.engine
        try:
            self._settle(await asyncio.to_thread(questioner.ask, loaded.engine))
        except TandemError as error:
            if not self.answers.done():
                self.answers.set_exception(error)

    async def deactivate(self, reason: str) -> None:  # noqa: ARG002 - the interface's
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)
        self.ended.set()

    def in_flight(self) -> int:
        return 0

    def _settle(self, answers: Tokens | None) -> None:
        if not self.answers.done():
            self.answers.set_result(answers)


async def smoke(
    config: ClusterConfig, setup: ModelSetup, name: str, on_check: Callable[[Check], None]
) -> bool:
    """Runs all phases; whether everything that this rank judges has passed."""
    local = await asyncio.to_thread(_ask_locally, setup)
    on_check(Check("one process", True, f"{sum(map(len, local))} tokens"))
    facts = await asyncio.to_thread(measure_node, setup, name)
    passed = True
    for strategy in _PHASES:
        phase = msgspec.structs.replace(config, parallelism=strategy)
        checks = await _phase(phase, setup, facts, local)
        for check in checks:
            on_check(check)
        passed &= all(check.passed is not False for check in checks)
    return passed


def _ask_locally(setup: ModelSetup) -> Tokens:
    questioner = _Questioner()
    loaded = load_engine(setup.options, questioner.deliver)
    try:
        return questioner.ask(loaded.engine)
    finally:
        loaded.engine.close()


async def _phase(
    config: ClusterConfig, setup: ModelSetup, facts: NodeFacts, expected: Tokens
) -> list[Check]:
    host = _PhaseHost(setup)
    node = ClusterNode(config, setup, facts, host)
    title = {Parallelism.TENSOR: "tensor parallel", Parallelism.PIPELINE: "pipeline"}
    name = title[config.parallelism]
    running = asyncio.ensure_future(node.run())
    try:
        async with asyncio.timeout(_PHASE_TIMEOUT_S):
            answers = await host.answers
            status = node.status()
            if answers is None:  # rank 0 judges; this one has done its part when it ends
                await host.ended.wait()
                return [Check(name, None, f"served as rank {status.rank}")]
    except TimeoutError:
        return [Check(name, False, node.last_end or "the other machine did not come")]
    except LinkLost as error:
        return [Check(name, False, error.message)]
    finally:
        running.cancel()
        await asyncio.wait([running])
    checks = [
        Check(
            f"link to rank {rank.rank}",
            True,
            f"TLS 1.3, {rank.round_trip_us:.0f} us, {rank.mb_per_s:.0f} MB/s, {rank.address}",
        )
        for rank in status.ranks
        if rank.round_trip_us is not None and rank.mb_per_s is not None
    ]
    same = answers == expected
    detail = "the same tokens" if same else f"other tokens: {answers} in place of {expected}"
    return [*checks, Check(name, same, detail)]
