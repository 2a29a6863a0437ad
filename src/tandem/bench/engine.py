"""Tandem's engine beside llama.cpp and transformers: same weights, cores and shapes, in one run.

The contenders take turns, round by round, so that a noisy moment of the machine meets all of them;
figures are medians over the rounds. Each has a process of its own, and waits while others run.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tandem.bench import llama_cpp
from tandem.bench.engines import (
    MAX_BATCH,
    Contender,
    Job,
    Running,
    running,
    tandem,
    tandem_int8,
)
from tandem.bench.transformers_engine import Transformers

OURS = "tandem"
CONTENDERS = (
    Contender(OURS, "bf16", "torch", tandem),
    Contender("llama.cpp", "bf16", "llama_cpp", llama_cpp.bf16),
    Contender("transformers", "bf16", "transformers", Transformers),
    Contender(OURS, "int8", "torch", tandem_int8),
    Contender("llama.cpp", "q8_0", "llama_cpp", llama_cpp.q8_0),
)
PREFILL = "prefill"
BATCHES = (1, 4, 8, MAX_BATCH)


class Figure(msgspec.Struct, frozen=True):
    """Tokens a second by workload: prompt tokens, and new tokens of so many sequences at a time."""

    name: str
    kind: str
    tokens_per_s: dict[str, float]
    memory_mib: float


class Report(msgspec.Struct, frozen=True):
    model: str
    threads: int
    rounds: int
    figures: list[Figure]
    #: Contenders that are not installed here.
    missing: list[str]

    def ratio(self, figure: Figure, workload: str) -> float:
        """Tandem's bf16 speed over this one's."""
        return self.figures[0].tokens_per_s[workload] / figure.tokens_per_s[workload]


def measure_engines(
    model: Path,
    scratch: Path,
    *,
    threads: int,
    rounds: int,
    prompt: int,
    tokens: int,
    on_progress: Callable[[str], None],
) -> Report:
    """Converted weights go into `scratch`.

    Raises ConfigurationError for a model that a contender cannot run.
    """
    present = [contender for contender in CONTENDERS if contender.installed]
    taken: list[dict[str, list[float]]] = [{} for _ in present]
    with ExitStack() as stack:
        contenders = []
        for contender in present:
            on_progress(f"loading {contender.name} {contender.kind}")
            contenders.append(stack.enter_context(running(contender, Job(model, scratch, threads))))
        for number in range(rounds):
            for index, one in enumerate(contenders):
                contender = one.contender
                on_progress(f"round {number + 1} of {rounds}: {contender.name} {contender.kind}")
                for workload, speed in _measure(one, prompt, tokens, number).items():
                    taken[index].setdefault(workload, []).append(speed)
        figures = [
            Figure(one.contender.name, one.contender.kind, _medians(speeds), one.memory_mib())
            for one, speeds in zip(contenders, taken, strict=True)
        ]
    missing = sorted({c.name for c in CONTENDERS if not c.installed})
    return Report(str(model), threads, rounds, figures, missing)


def decode(batch: int) -> str:
    return f"decode {batch}"


def _measure(one: Running, prompt: int, tokens: int, salt: int) -> dict[str, float]:
    one.generate(_prompts(1, 8, f"{salt} warm"), 2)
    times = one.generate(_prompts(1, prompt, f"{salt} prefill"), 1)
    speeds = {PREFILL: prompt / times.first}
    for batch in BATCHES:
        times = one.generate(_prompts(batch, 8, f"{salt} {batch}"), tokens)
        speeds[decode(batch)] = batch * (tokens - 1) / times.rest
    return speeds


def _prompts(count: int, length: int, salt: str) -> list[list[int]]:
    """Different every time: no prefix is in a cache."""
    numbers = random.Random(salt)  # noqa: S311 - guards nothing
    return [numbers.choices(range(3, 200), k=length) for _ in range(count)]


def _medians(speeds: dict[str, list[float]]) -> dict[str, float]:
    return {workload: statistics.median(values) for workload, values in speeds.items()}
