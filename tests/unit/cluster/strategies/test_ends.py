"""Both ends of each strategy, over memory: what goes between the ranks, and how a session ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from tests.support.memory import TIMEOUT_S, ListTensors, Rows, memory_mesh

from tandem.cluster.collectives import SealedCommunicator
from tandem.cluster.strategies import STRATEGIES, RankWork, ShardServer
from tandem.cluster.strategies.base import OtherRanks, SteppedStage
from tandem.cluster.strategies.pipeline import PipelineExecutor, PipelineWork
from tandem.cluster.strategies.tensor_parallel import TensorParallelExecutor, TensorParallelWork
from tandem.engine import Communicator, Executor, StepPlan, StepResult
from tandem.engine.core.step import SampledToken
from tandem.errors import LinkLost, TandemError
from tandem.protocol.cluster import Parallelism


@dataclass
class _Run:
    """One forward pass: states count the layers that they passed, a token says how many."""

    stage: _Stage
    plan: StepPlan
    rows: int = 1

    def forward(self, states: Rows | None = None) -> Rows:
        if self.plan.step == self.stage.breaks_at:
            raise RuntimeError("no such kernel")
        before = [[0.0]] if states is None else states
        own = [[before[0][0] + self.stage.layers]]
        return own if self.stage.sums is None else self.stage.sums.all_reduce(own)

    def logits(self, states: Rows) -> Rows | None:
        return states if self.stage.sums is None else self.stage.sums.gather(states)

    def result(self, logits: Rows | None) -> StepResult:
        assert logits is not None
        return StepResult(self.plan.step, [SampledToken(1, int(logits[0][0]))])


@dataclass
class _Stage:
    layers: int
    sums: Communicator[Rows] | None = None
    breaks_at: int = 0

    def begin(self, plan: StepPlan) -> _Run:
        return _Run(self, plan)

    def states_like(self, rows: int) -> Rows:
        return [[0.0]] * rows


@dataclass
class _Session:
    executor: Executor
    ended: dict[int, TandemError] = field(default_factory=dict)


@contextmanager
def _session(strategy: Parallelism, size: int, breaks_at: int = 0) -> Iterator[_Session]:
    """Ranks of 1, 2, ... layers; the last one breaks at a step."""
    mesh = memory_mesh(size)
    links = [SealedCommunicator(rank, mesh[rank], ListTensors()) for rank in range(size)]
    others, works = OtherRanks(mesh[0]), dict[int, RankWork]()
    tensor = strategy is Parallelism.TENSOR
    stages = [
        SteppedStage(
            _Stage(rank + 1, links[rank] if tensor else None, breaks_at * (rank == size - 1)),
            links[rank],
        )
        for rank in range(size)
    ]
    executor: Executor
    if tensor:
        executor = TensorParallelExecutor(stages[0], others)
        works = {rank: TensorParallelWork(stages[rank]) for rank in range(1, size)}
    else:
        executor = PipelineExecutor(stages[0], links[0], others)
        works = {
            rank: PipelineWork(stages[rank], links[rank], mesh[rank][0]) for rank in range(1, size)
        }
    session = _Session(executor)
    servers = {rank: ShardServer(work, mesh[rank][0]) for rank, work in works.items()}

    def serve(rank: int) -> None:
        session.ended[rank] = servers[rank].run()
        for channel in mesh[rank].values():
            channel.abort()

    threads = [threading.Thread(target=serve, args=(rank,)) for rank in servers]
    for thread in threads:
        thread.start()
    try:
        yield session
    finally:
        executor.close()
        for thread in threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()


def _step(executor: Executor, step: int) -> StepResult:
    executor.submit(StepPlan(step, []))
    return executor.collect()


def test_every_strategy_that_a_plan_may_name_has_its_row() -> None:
    assert set(STRATEGIES) == {Parallelism.TENSOR, Parallelism.PIPELINE}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("size", [2, 3])
def test_all_layers_of_all_ranks_make_each_token(strategy: Parallelism, size: int) -> None:
    with _session(strategy, size) as session:
        for step in (1, 2, 3):
            (token,) = _step(session.executor, step).tokens
            assert token.token == sum(range(1, size + 1))
    assert set(session.ended) == set(range(1, size))
    assert all(isinstance(error, LinkLost) for error in session.ended.values())


def test_a_pipeline_has_a_step_more_under_way_than_stages() -> None:
    with _session(Parallelism.PIPELINE, 3) as session:
        assert (session.executor.stages, session.executor.depth) == (3, 4)
        for step in range(1, session.executor.depth + 1):
            session.executor.submit(StepPlan(step, []))
        steps = [session.executor.collect().step for _ in range(session.executor.depth)]
        assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rank_that_breaks_ends_the_session_for_all(strategy: Parallelism) -> None:
    with _session(strategy, 2, breaks_at=2) as session:
        _step(session.executor, 1)
        with pytest.raises(LinkLost, match="rank 1 failed"):
            _step(session.executor, 2)
    assert "no such kernel" in session.ended[1].message


def test_the_group_knows_a_step_before_the_stage_runs_it() -> None:
    order: list[str] = []

    class _Group:
        rank, size = 0, 2

        def begin(self, step: int) -> None:
            order.append(f"group {step}")

    class _Noting(_Stage):
        def begin(self, plan: StepPlan) -> _Run:
            order.append(f"stage {plan.step}")
            return super().begin(plan)

    SteppedStage(_Noting(1), _Group()).begin(StepPlan(7, []))
    assert order == ["group 7", "stage 7"]
