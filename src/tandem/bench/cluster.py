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
from functools import partial

import msgspec

from tandem.bench.sealing import seal_s
from tandem.bench.stopwatch import StepsTaken, Stopwatch
from tandem.cluster import Asker, ClusterConfig, NodeFacts, measure_node, run_alone, run_clustered
from tandem.engine import ModelSetup
from tandem.protocol.cluster import Parallelism

#: One rank by itself; and as many as there are, each by itself at the same time: what their cores
#: and the memory that they share can give.
ALONE, CEILING = "one rank", "two alone"
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


class Breakdown(msgspec.Struct, frozen=True):
    """An average step on rank 0, in milliseconds.

    `link_ms` includes waiting for the other rank, and `seal_ms`: its frames' share of TLS, measured
    in memory. `scheduling_ms` is what no executor was asked to do.
    """

    compute_ms: float
    link_ms: float
    seal_ms: float
    scheduling_ms: float


class Figure(msgspec.Struct, frozen=True):
    """Tokens a second, in and out, and where a step's time goes, by workload."""

    variant: str
    tokens_per_s: dict[str, float]
    steps: dict[str, Breakdown]


class ClusterReport(msgspec.Struct, frozen=True):
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
) -> ClusterReport | None:
    """The report on rank 0; None on the others. Raises LinkLost when there is no session."""
    facts = await asyncio.to_thread(measure_node, setup, name)
    found = []
    for number in range(rounds):

        def say(variant: str, number: int = number) -> None:
            on_progress(f"round {number + 1} of {rounds}: {variant}")

        found.append(await _round(config, setup, facts, number, say))
    own = [variants for variants in found if variants is not None]
    if not own:
        return None
    names = (ALONE, *VARIANTS, CEILING)
    return ClusterReport(name, rounds, [_figure(v, [one[v] for one in own]) for v in names])


class _Taken(msgspec.Struct, frozen=True):
    """One workload, once; `steps` where there is more than one rank."""

    tokens: int
    seconds: float
    steps: StepsTaken | None

    @property
    def twice(self) -> _Taken:
        """What two took that did the same at the same time."""
        return msgspec.structs.replace(self, tokens=2 * self.tokens)


#: By workload.
_Measured = dict[str, _Taken]


async def _round(
    config: ClusterConfig,
    setup: ModelSetup,
    facts: NodeFacts,
    salt: int,
    say: Callable[[str], None],
) -> dict[str, _Measured] | None:
    """All variants once; None above rank 0, which takes part in all but the last."""
    measured: dict[str, _Measured] = {}
    for variant, parallelism in VARIANTS.items():
        say(variant)
        session = msgspec.structs.replace(config, parallelism=parallelism)
        watch = Stopwatch()
        work = partial(_measure, salt=salt, watch=watch)
        found, _ = await run_clustered(session, setup, facts, work, watch)
        if found is not None:
            measured[variant] = found
    say(CEILING)
    both = await asyncio.to_thread(run_alone, setup, partial(_measure, salt=salt))
    if not measured:
        return None
    measured[CEILING] = {workload: taken.twice for workload, taken in both.items()}
    say(ALONE)
    measured[ALONE] = await asyncio.to_thread(run_alone, setup, partial(_measure, salt=salt))
    return measured


def _measure(asker: Asker, salt: int, watch: Stopwatch | None = None) -> _Measured:
    asker.ask([[5, 6, 7]], 4)  # the first steps pay for warming up
    taken = {}
    for workload in WORKLOADS:
        prompts = workload.prompts(salt)
        before = None if watch is None else watch.taken
        started = time.perf_counter()
        asker.ask(prompts, workload.output, streams=workload.streams)
        seconds = time.perf_counter() - started
        steps = None if watch is None or before is None else watch.taken.since(before)
        tokens = workload.requests * (workload.prompt + workload.output)
        taken[workload.name] = _Taken(tokens, seconds, steps)
    return taken


def _figure(variant: str, rounds: list[_Measured]) -> Figure:
    """Medians over the rounds."""
    speeds, steps = {}, {}
    for workload in rounds[0]:
        taken = [one[workload] for one in rounds]
        speeds[workload] = statistics.median(one.tokens / one.seconds for one in taken)
        parts = [_breakdown(one.seconds, one.steps) for one in taken if one.steps is not None]
        if parts:
            fields = Breakdown.__struct_fields__
            steps[workload] = Breakdown(
                *(statistics.median(getattr(part, name) for part in parts) for name in fields)
            )
    return Figure(variant, speeds, steps)


def _breakdown(seconds: float, taken: StepsTaken) -> Breakdown:
    sealing_s = taken.frames * seal_s(taken.bytes // max(1, taken.frames))
    each = 1e3 / taken.steps
    return Breakdown(
        compute_ms=(taken.seconds - taken.link_seconds) * each,
        link_ms=taken.link_seconds * each,
        seal_ms=sealing_s * each,
        scheduling_ms=(seconds - taken.seconds) * each,
    )
