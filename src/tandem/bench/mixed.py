"""Streams of different lengths, sixteen at a time, as a service has them: Tandem and transformers.

Answers' lengths are drawn from an exponential distribution: many short ones, a few long. A batch
that ends with its longest answer computes for those that have ended long before; whoever fills
their places at once does not.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tandem.bench.engines import Contender, Job, Wanted, running, tandem
from tandem.bench.transformers_engine import ContinuousTransformers, Transformers

CONTENDERS = (
    Contender("tandem", "bf16", "torch", tandem),
    Contender("transformers", "bf16 generate", "transformers", Transformers),
    Contender("transformers", "bf16 continuous", "transformers", ContinuousTransformers),
)
_MIN_PROMPT, _MAX_PROMPT = 8, 64
_MIN_TOKENS, _MAX_TOKENS = 2, 256


class MixedFigure(msgspec.Struct, frozen=True):
    """`tokens_per_s` are the new tokens that were asked for, over the time until all are there."""

    name: str
    kind: str
    tokens_per_s: float


def measure_mixed(
    model: Path,
    *,
    threads: int,
    rounds: int,
    requests: int,
    mean_tokens: int,
    on_progress: Callable[[str], None],
) -> list[MixedFigure]:
    """Medians over the rounds; those that are installed take turns, ours first.

    Raises BenchmarkFailed.
    """
    present = [contender for contender in CONTENDERS if contender.installed]
    taken: list[list[float]] = [[] for _ in present]
    with ExitStack() as stack:
        servers = []
        for contender in present:
            on_progress(f"loading {contender.name} {contender.kind}")
            job = Job(model, model, threads)
            servers.append(stack.enter_context(running(contender, job)))
        for number in range(rounds):
            wanted = draw(requests, mean_tokens, number)
            tokens = sum(one.tokens for one in wanted)
            for server, speeds in zip(servers, taken, strict=True):
                contender = server.contender
                on_progress(f"round {number + 1} of {rounds}: {contender.name} {contender.kind}")
                server.serve(draw(1, 2, -1 - number))
                speeds.append(tokens / server.serve(wanted))
    return [
        MixedFigure(contender.name, contender.kind, statistics.median(speeds))
        for contender, speeds in zip(present, taken, strict=True)
    ]


def draw(requests: int, mean_tokens: int, salt: int) -> list[Wanted]:
    """The same for the same salt; no two prompts begin alike."""
    numbers = random.Random(f"mixed {salt}")  # noqa: S311 - guards nothing
    return [
        Wanted(
            numbers.choices(range(3, 200), k=numbers.randint(_MIN_PROMPT, _MAX_PROMPT)),
            min(_MAX_TOKENS, max(_MIN_TOKENS, round(numbers.expovariate(1 / mean_tokens)))),
        )
        for _ in range(requests)
    ]
