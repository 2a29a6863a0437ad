"""Measures a real service: starts `tandem up`, streams requests through the API, prints a table.

    make bench
    make bench ARGS="--concurrency 8 --requests 32 --model ./my-model --json"

TTFT is the time from sending a request to its first text; decode speed counts the tokens after
that, so the two add up to what a user waits for. Everything is measured at the client, through
the coordinator and the provider, on this machine: the client's own work takes part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from openai import AsyncOpenAI
from rich.console import Console
from rich.table import Table

_STOP_TIMEOUT_S = 60.0
_REQUEST_TIMEOUT_S = 600.0
_WORDS = ("the", "old", "sailor", "told", "a", "story", "about", "the", "fox", "and", "the", "sea")


@dataclass(frozen=True)
class Sample:
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


@dataclass(frozen=True)
class Spread:
    p50: float
    p95: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        if len(values) < 2:
            only = values[0] if values else float("nan")
            return cls(only, only)
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return cls(cuts[49], cuts[94])


@dataclass(frozen=True)
class Report:
    model: str
    requests: int
    concurrency: int
    prompt_tokens: int
    completion_tokens: int
    elapsed_s: float
    ttft_ms: Spread
    decode_tokens_per_s: Spread
    total_tokens_per_s: float

    @classmethod
    def of(cls, model: str, concurrency: int, samples: list[Sample], elapsed_s: float) -> Report:
        speeds = [sample.decode_tokens_per_s for sample in samples]
        completion_tokens = sum(sample.completion_tokens for sample in samples)
        return cls(
            model=model,
            requests=len(samples),
            concurrency=concurrency,
            prompt_tokens=sum(sample.prompt_tokens for sample in samples),
            completion_tokens=completion_tokens,
            elapsed_s=elapsed_s,
            ttft_ms=Spread.of([sample.ttft_s * 1000 for sample in samples]),
            decode_tokens_per_s=Spread.of([speed for speed in speeds if speed is not None]),
            total_tokens_per_s=completion_tokens / elapsed_s,
        )


def main() -> int:
    options = parse_options()
    try:
        with service(options) as ready:
            report = asyncio.run(measure(ready, options))
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(asdict(report)))
    else:
        show(report)
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measures time to first token and decode speed of a `tandem up` service."
    )
    parser.add_argument("--model", default="tandem-demo")
    parser.add_argument("--providers", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=4, help="requests under way at once")
    parser.add_argument("--requests", type=int, default=16, help="requests in all")
    parser.add_argument("--prompt-words", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    for name in ("providers", "concurrency", "requests", "prompt_words", "max_tokens"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return options


@contextmanager
def service(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A `tandem up` of our own, on a free port and in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as data_dir:
        command = [sys.executable, "-m", "tandem", "up", "--json", "--port=0"]
        command += [f"--model={options.model}", f"--providers={options.providers}"]
        command += [f"--data-dir={data_dir}", f"--max-sequences={max(32, options.concurrency)}"]
        # A session of its own: Ctrl-C reaches us, and we stop it in order.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # `up` has a deadline for it
            if not line:
                sys.exit("error: `tandem up` did not start, see above")
            yield json.loads(line)
        finally:
            process.terminate()
            process.wait(_STOP_TIMEOUT_S)


async def measure(ready: dict[str, Any], options: argparse.Namespace) -> Report:
    model = ready["models"][0]
    async with AsyncOpenAI(
        base_url=ready["base_url"],
        api_key=ready["api_key"],
        max_retries=0,
        timeout=_REQUEST_TIMEOUT_S,
    ) as client:
        await ask(client, model, 0, options)  # the first request pays for warming up
        numbers = iter(range(1, options.requests + 1))
        samples: list[Sample] = []

        async def worker() -> None:
            samples.extend([await ask(client, model, number, options) for number in numbers])

        started = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(options.concurrency, options.requests)):
                group.create_task(worker())
        return Report.of(model, options.concurrency, samples, perf_counter() - started)


async def ask(client: AsyncOpenAI, model: str, number: int, options: argparse.Namespace) -> Sample:
    """One streamed request. The number opens the prompt, so that no two share a cached prefix."""
    words = [_WORDS[index % len(_WORDS)] for index in range(options.prompt_words)]
    started = perf_counter()
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"{number} {' '.join(words)}"}],
        max_tokens=options.max_tokens,
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
        sys.exit("error: the service sent no usage")
    return Sample(
        ttft_s=total_s if first_s is None else first_s,
        total_s=total_s,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def show(report: Report) -> None:
    table = Table(
        title=f"{report.model}: {report.requests} requests, {report.concurrency} at a time"
    )
    table.add_column("")
    table.add_column("p50", justify="right")
    table.add_column("p95", justify="right")
    ttft, decode = report.ttft_ms, report.decode_tokens_per_s
    table.add_row("time to first token (ms)", f"{ttft.p50:,.1f}", f"{ttft.p95:,.1f}")
    # The slow end of a speed is its low one; p95 here is what 5% of the requests exceed.
    table.add_row("decode (tokens/s a request)", f"{decode.p50:,.1f}", f"{decode.p95:,.1f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{report.completion_tokens:,} tokens in {report.elapsed_s:.1f} s:"
        f" {report.total_tokens_per_s:,.1f} tokens/s in all;"
        f" {report.prompt_tokens:,} prompt tokens"
    )


if __name__ == "__main__":
    sys.exit(main())
