"""A real service as its clients see it: `tandem up`, and streams through OpenAI's own client.

TTFT is the time from sending a request to its first text; decode speed counts the tokens after
that, so the two add up to what a user waits for. Everything is measured at the client, through
the coordinator and the provider, on this machine: the client's own work takes part of it.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import msgspec
from openai import AsyncOpenAI

from tandem.bench import BenchmarkFailed
from tandem.up import tandem_command

_STOP_TIMEOUT_S = 60.0
_REQUEST_TIMEOUT_S = 600.0
_WORDS = ("the", "old", "sailor", "told", "a", "story", "about", "the", "fox", "and", "the", "sea")


class Clients(msgspec.Struct, frozen=True):
    """What they ask: `requests`, `concurrency` at a time, each as long as that."""

    concurrency: int
    requests: int
    prompt_words: int
    max_tokens: int


class Ready(msgspec.Struct, frozen=True):
    """What `tandem up --json` says when it serves, as far as a client needs it."""

    base_url: str
    api_key: str
    models: list[str]


class Sample(msgspec.Struct, frozen=True):
    """One request, as its client saw it."""

    ttft_s: float
    total_s: float
    prompt_tokens: int
    completion_tokens: int

    @property
    def decode_tokens_per_s(self) -> float | None:
        """None for an answer too short to have a speed."""
        decode_s = self.total_s - self.ttft_s
        if self.completion_tokens < 2 or decode_s <= 0:
            return None
        return (self.completion_tokens - 1) / decode_s


class Spread(msgspec.Struct, frozen=True):
    p50: float
    p95: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Not numbers where there is no value."""
        if len(values) < 2:
            only = values[0] if values else math.nan
            return cls(only, only)
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return cls(cuts[49], cuts[94])


class ServiceReport(msgspec.Struct, frozen=True):
    model: str
    clients: Clients
    prompt_tokens: int
    completion_tokens: int
    elapsed_s: float
    ttft_ms: Spread
    decode_tokens_per_s: Spread
    total_tokens_per_s: float

    @classmethod
    def of(
        cls, model: str, clients: Clients, samples: list[Sample], elapsed_s: float
    ) -> ServiceReport:
        speeds = [sample.decode_tokens_per_s for sample in samples]
        completion_tokens = sum(sample.completion_tokens for sample in samples)
        return cls(
            model=model,
            clients=clients,
            prompt_tokens=sum(sample.prompt_tokens for sample in samples),
            completion_tokens=completion_tokens,
            elapsed_s=elapsed_s,
            ttft_ms=Spread.of([sample.ttft_s * 1000 for sample in samples]),
            decode_tokens_per_s=Spread.of([speed for speed in speeds if speed is not None]),
            total_tokens_per_s=completion_tokens / elapsed_s,
        )


@contextmanager
def running_up(*options: str) -> Iterator[Ready]:
    """A `tandem up` of our own, on a free port and in a folder of its own.

    Raises BenchmarkFailed when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as data_dir:
        command = tandem_command("up", "--json", "--port=0", f"--data-dir={data_dir}", *options)
        # A session of its own: Ctrl-C reaches us, and we stop it in order.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # `up` has a deadline for it
            if not line:
                raise BenchmarkFailed("`tandem up` did not start, see above")
            yield msgspec.json.decode(line, type=Ready)
        finally:
            process.terminate()
            process.wait(_STOP_TIMEOUT_S)


async def measure_service(ready: Ready, clients: Clients) -> ServiceReport:
    """Raises BenchmarkFailed, and what OpenAI's client raises."""
    model = ready.models[0]
    async with AsyncOpenAI(
        base_url=ready.base_url,
        api_key=ready.api_key,
        max_retries=0,
        timeout=_REQUEST_TIMEOUT_S,
    ) as client:
        await _ask(client, model, 0, clients)  # the first request pays for warming up
        numbers = iter(range(1, clients.requests + 1))
        samples: list[Sample] = []

        async def worker() -> None:
            samples.extend([await _ask(client, model, number, clients) for number in numbers])

        started = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(clients.concurrency, clients.requests)):
                group.create_task(worker())
        return ServiceReport.of(model, clients, samples, perf_counter() - started)


async def _ask(client: AsyncOpenAI, model: str, number: int, clients: Clients) -> Sample:
    """One streamed request. The number opens the prompt, so that no two share a cached prefix."""
    words = [_WORDS[index % len(_WORDS)] for index in range(clients.prompt_words)]
    started = perf_counter()
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"{number} {' '.join(words)}"}],
        max_tokens=clients.max_tokens,
        temperature=1.0,
        seed=number,
        stream=True,
        stream_options={"include_usage": True},
    )
    first_s: float | None = None
    usage = None
    async for chunk in stream:
        if first_s is None and any(choice.delta.content for choice in chunk.choices):
            first_s = perf_counter() - started
        usage = chunk.usage or usage
    total_s = perf_counter() - started
    if usage is None:
        raise BenchmarkFailed("the service sent no usage")
    return Sample(
        ttft_s=total_s if first_s is None else first_s,
        total_s=total_s,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )
