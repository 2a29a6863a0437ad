"""Ranks with one core each against one rank with one core, in one run, at the engine.

Runs on every host at the same time, like `tandem smoke`. The variants take turns, round by round,
so that a noisy moment of the machine meets all of them; figures are medians over the rounds. The
coordinator and its clients, which run elsewhere in real life, are left out: on a machine with as
many cores as ranks they would take cores from them.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable

import msgspec

from tandem.cluster import ClusterConfig, measure_node
from tandem.cluster.phases import Asker, alone, clustered
from tandem.engine import ModelSetup
from tandem.protocol.between_nodes import Parallelism

ALONE = "one rank"
VARIANTS = {"tp": Parallelism.TENSOR, "pp": Parallelism.PIPELINE}


class Workload(msgspec.Struct, frozen=True):
    """So many requests, `streams` at a time, each of `prompt` tokens in and `output` out."""

    name: str
    streams: int
    requests: int
    prompt: int
    output: int

    def prompts(self, salt: int) -> list[list[int]]:
        """Different every time: no prefix is in the cache."""
        numbers = random.Random(f"{self.name} {salt}")  # noqa: S311 - guards nothing
        return [numbers.choices(range(3, 200), k=self.prompt) for _ in range(self.requests)]


WORKLOADS = (
    Workload("1 stream, decode", 1, 1, 8, 64),
    Workload("8 streams, decode", 8, 8, 8, 24),
    Workload("8 streams, 1,024-token prompts", 8, 16, 1024, 8),
)


class Figure(msgspec.Struct, frozen=True):
    """Tokens a second, in and out, by workload."""

    variant: str
    tokens_per_s: dict[str, float]


class Report(msgspec.Struct, frozen=True):
    model: str
    rounds: int
    figures: list[Figure]

    def ratio(self, variant: str, workload: str) -> float:
        by_name = {figure.variant: figure.tokens_per_s[workload] for figure in self.figures}
        return by_name[variant] / by_name[ALONE]


async def measure_cluster(
    config: ClusterConfig,
    setup: ModelSetup,
    name: str,
    *,
    rounds: int,
    on_progress: Callable[[str], None],
) -> Report | None:
    """The report on rank 0; None on the others. Raises LinkLost when there is no session."""
    facts = await asyncio.to_thread(measure_node, setup, name)
    taken: dict[str, list[dict[str, float]]] = {}
    judge = True
    for number in range(rounds):

        def work(asker: Asker, salt: int = number) -> dict[str, float]:
            return _measure(asker, salt)

        for variant, parallelism in VARIANTS.items():
            on_progress(f"round {number + 1} of {rounds}: {variant}")
            phase = msgspec.structs.replace(config, parallelism=parallelism)
            speeds, _ = await clustered(phase, setup, facts, work)
            judge = speeds is not None
            if speeds is not None:
                taken.setdefault(variant, []).append(speeds)
        if judge:
            on_progress(f"round {number + 1} of {rounds}: {ALONE}")
            alone_speeds = await asyncio.to_thread(alone, setup, work)
            taken.setdefault(ALONE, []).append(alone_speeds)
    if not judge:
        return None
    figures = [Figure(variant, _medians(taken[variant])) for variant in (ALONE, *VARIANTS)]
    return Report(name, rounds, figures)


def _measure(asker: Asker, salt: int) -> dict[str, float]:
    asker.ask([[5, 6, 7]], 4)  # the first steps pay for warming up
    speeds = {}
    for workload in WORKLOADS:
        prompts = workload.prompts(salt)
        started = time.perf_counter()
        asker.ask(prompts, workload.output, streams=workload.streams)
        tokens = workload.requests * (workload.prompt + workload.output)
        speeds[workload.name] = tokens / (time.perf_counter() - started)
    return speeds


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(speeds[name] for speeds in rounds) for name in rounds[0]}
