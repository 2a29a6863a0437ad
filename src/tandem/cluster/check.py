"""A check of a real cluster: the same answers from one process, tensor parallel, and pipeline.

Runs on every host at the same time. Each strategy gets a session of its own; rank 0
compares and judges, the others serve their rank until it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from tandem.cluster.config import ClusterConfig
from tandem.cluster.facts import NodeFacts, measure_node
from tandem.cluster.one_session import Asker, Tokens, run_alone, run_clustered
from tandem.engine import Message, ModelSetup
from tandem.errors import TandemError
from tandem.protocol.cluster import ClusterReport, Parallelism

_STRATEGIES = {Parallelism.TENSOR: "tensor parallel", Parallelism.PIPELINE: "pipeline"}
_QUESTIONS = ("Hello!", "What is 3 + 4?", "Count to 25.")
_TOKENS = 24


class Check(msgspec.Struct, frozen=True):
    """One line of the verdict; `passed` None on a rank that does not judge."""

    name: str
    passed: bool | None
    detail: str


async def check_cluster(
    config: ClusterConfig, setup: ModelSetup, name: str, on_check: Callable[[Check], None]
) -> bool:
    """Tries all strategies; whether everything that this rank judges has passed."""
    prompts = [setup.tokenizer.encode_chat([Message("user", text)]) for text in _QUESTIONS]

    def work(asker: Asker) -> Tokens:
        return asker.ask(prompts, _TOKENS)

    expected = await asyncio.to_thread(run_alone, setup, work)
    on_check(Check("one process", True, f"{sum(map(len, expected))} tokens"))
    facts = await asyncio.to_thread(measure_node, setup, name)
    passed = True
    for strategy in _STRATEGIES:
        one = msgspec.structs.replace(config, parallelism=strategy)
        for check in await _check_strategy(one, setup, facts, work, expected):
            on_check(check)
            passed &= check.passed is not False
    return passed


async def _check_strategy(
    config: ClusterConfig,
    setup: ModelSetup,
    facts: NodeFacts,
    work: Callable[[Asker], Tokens],
    expected: Tokens,
) -> list[Check]:
    name = _STRATEGIES[config.parallelism]
    try:
        answers, report = await run_clustered(config, setup, facts, work)
    except TandemError as error:
        return [Check(name, False, error.message)]
    if answers is None:  # rank 0 judges
        return [Check(name, None, f"served as rank {report.rank}")]
    same = answers == expected
    detail = "the same tokens" if same else f"other tokens: {answers} in place of {expected}"
    return [*_links(report), Check(name, same, detail)]


def _links(report: ClusterReport) -> list[Check]:
    return [
        Check(
            f"link to rank {rank.rank}",
            True,
            f"TLS 1.3, {rank.round_trip_us:.0f} us, {rank.mb_per_s:.0f} MB/s, {rank.address}",
        )
        for rank in report.ranks
        if rank.round_trip_us is not None and rank.mb_per_s is not None
    ]
