"""How fast engines are, by shapes and in a stream of requests: Tandem's own, and any beside it.

Shapes are what a paper would name: a prompt of one length, so many sequences of one length at a
time. Streams are what a service has: answers of different lengths, sixteen at a time, drawn from an
exponential distribution, many short ones and a few long. A batch that ends with its longest answer
computes for those that have ended long before; whoever fills their places at once does not.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from tandem.bench.contenders import (
    CONTEXT,
    MAX_BATCH,
    Contender,
    Job,
    Running,
    Times,
    Turns,
    Wanted,
    take_turns,
)
from tandem.cluster import Asker
from tandem.engine import (
    EngineOptions,
    Quantization,
    SchedulerLimits,
    Speculate,
    has_few_bits,
    load_engine,
)

PREFILL, MIXED = "prefill", f"{MAX_BATCH} mixed"
BATCHES = (1, 4, 8, MAX_BATCH)
_MIN_PROMPT, _MAX_PROMPT = 8, 64
_MIN_TOKENS, _MAX_TOKENS = 2, 256


class Work(Protocol):
    """What all contenders do in their turn."""

    def measure(self, one: Running, salt: int) -> dict[str, float]:
        """Tokens a second by workload; `salt` makes each round's prompts new."""
        ...


class Shapes(msgspec.Struct, frozen=True):
    """`prompt` tokens to prefill, and `tokens` to decode in each of so many sequences."""

    prompt: int
    tokens: int

    def measure(self, one: Running, salt: int) -> dict[str, float]:
        one.generate(_prompts(1, 8, f"{salt} warm"), 2)
        times = one.generate(_prompts(1, self.prompt, f"{salt} prefill"), 1)
        speeds = {PREFILL: self.prompt / times.first}
        for batch in BATCHES:
            times = one.generate(_prompts(batch, 8, f"{salt} {batch}"), self.tokens)
            speeds[decode(batch)] = batch * (self.tokens - 1) / times.rest
        return speeds


class Streams(msgspec.Struct, frozen=True):
    """`requests`, sixteen at a time, with answers of `mean_tokens` on average."""

    requests: int
    mean_tokens: int

    def measure(self, one: Running, salt: int) -> dict[str, float]:
        one.serve(self.draw(1, 2, -1 - salt))
        wanted = self.draw(self.requests, self.mean_tokens, salt)
        return {MIXED: sum(each.tokens for each in wanted) / one.serve(wanted)}

    @staticmethod
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


class EngineFigure(msgspec.Struct, frozen=True):
    """Tokens a second by workload, and MiB of the process.

    Of a prompt when it is prefilled, else new tokens: of so many sequences at a time, or of mixed
    streams over the time until all are there.
    """

    name: str
    kind: str
    tokens_per_s: dict[str, float]
    memory_mib: float

    @property
    def title(self) -> str:
        return f"{self.name} {self.kind}"


#: By what they compare: how many times as fast, by workload.
Ratios = dict[str, dict[str, float]]


class EngineReport(msgspec.Struct, frozen=True):
    model: str
    threads: int
    rounds: int
    figures: list[EngineFigure]
    ratios: Ratios
    #: Contenders that are not installed here.
    missing: list[str]


def measure_engines(
    work: Work,
    contenders: Sequence[Contender],
    compare: Callable[[list[EngineFigure]], Ratios],
    job: Job,
    *,
    rounds: int,
    on_progress: Callable[[str], None],
) -> EngineReport:
    """Medians over the rounds, of those contenders that are installed.

    Raises ConfigurationError for a model that a contender cannot run, and BenchmarkFailed.
    """
    contenders = that_differ(contenders, few_bits=has_few_bits(job.model))
    present = [contender for contender in contenders if contender.installed]
    figures = [_figure(one) for one in take_turns(present, job, rounds, work.measure, on_progress)]
    missing = sorted({one.name for one in contenders if not one.installed})
    return EngineReport(str(job.model), job.threads, rounds, figures, compare(figures), missing)


def that_differ(contenders: Sequence[Contender], *, few_bits: bool) -> Sequence[Contender]:
    """Of a model that is in `few_bits` all of Tandem's kinds are the one that its files have."""
    if not few_bits:
        return contenders
    return [STORED, *(one for one in contenders if one.name != STORED.name)]


def decode(batch: int) -> str:
    return f"decode {batch}"


def own_ratios(figures: list[EngineFigure]) -> Ratios:
    """Each kind by the one of more bits, and what a batch gives by a single sequence."""
    ratios = {
        f"{narrow.kind} / {wide.kind}": ratio(narrow, wide)
        for wide, narrow in itertools.pairwise(figures)
    }
    for figure in figures:
        single = figure.tokens_per_s.get(decode(1))
        if single is not None:
            ratios[f"{figure.kind} / its decode 1"] = {
                decode(batch): figure.tokens_per_s[decode(batch)] / single for batch in BATCHES
            }
    return ratios


def ratio(one: EngineFigure, other: EngineFigure) -> dict[str, float]:
    """How many times as fast as the other, by workload."""
    return {name: speed / other.tokens_per_s[name] for name, speed in one.tokens_per_s.items()}


class _Tandem:
    """A `Generator` and a `Server`."""

    def __init__(
        self, job: Job, quantization: Quantization | None, dtype: str = "bfloat16"
    ) -> None:
        self._asker = Asker()
        options = EngineOptions(
            directory=job.model,
            dtype=dtype,
            quantization=quantization,
            device="cpu",  # whatever there is: cores are compared
            threads=job.threads,
            kv_tokens=MAX_BATCH * CONTEXT,
            scheduling=SchedulerLimits(max_sequences=MAX_BATCH),
            speculate=Speculate.OFF,  # random weights repeat themselves
        )
        self._asker.engine = load_engine(options, self._asker.deliver).engine

    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        first_at: list[float] = []
        began = time.perf_counter()
        self._asker.ask(prompts, tokens, on_first=lambda: first_at.append(time.perf_counter()))
        return Times(first_at[-1] - began, time.perf_counter() - first_at[-1])

    def serve(self, wanted: list[Wanted]) -> float:
        began = time.perf_counter()
        prompts = [one.prompt for one in wanted]
        self._asker.ask(prompts, [one.tokens for one in wanted], streams=MAX_BATCH)
        return time.perf_counter() - began


def tandem_bf16(job: Job) -> _Tandem:
    return _Tandem(job, None)


def tandem_int8(job: Job) -> _Tandem:
    return _Tandem(job, Quantization.INT8)


def tandem_int4(job: Job) -> _Tandem:
    return _Tandem(job, Quantization.INT4)


def tandem_as_stored(job: Job) -> _Tandem:
    return _Tandem(job, None, "auto")


BF16 = Contender("tandem", "bf16", "torch", tandem_bf16)
INT8 = Contender("tandem", "int8", "torch", tandem_int8)
INT4 = Contender("tandem", "int4", "torch", tandem_int4)
STORED = Contender("tandem", "as stored", "torch", tandem_as_stored)
#: Tandem alone.
OWN = (BF16, INT8, INT4)


def _prompts(count: int, length: int, salt: str) -> list[list[int]]:
    """Different every time: no prefix is in a cache."""
    numbers = random.Random(salt)  # noqa: S311 - guards nothing
    return [numbers.choices(range(3, 200), k=length) for _ in range(count)]


def _figure(turns: Turns[dict[str, float]]) -> EngineFigure:
    medians = {
        workload: statistics.median(speeds[workload] for speeds in turns.taken)
        for workload in turns.taken[0]
    }
    return EngineFigure(turns.contender.name, turns.contender.kind, medians, turns.memory_mib)
