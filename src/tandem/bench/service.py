"""A `tandem up` of the benchmark's own, and requests to it as a client sees them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

import httpx2
import msgspec

from tandem.errors import ConfigurationError, ProtocolError

_STOP_TIMEOUT_S = 60.0
_REQUEST_TIMEOUT_S = 600.0
_WORDS = ("the", "old", "sailor", "told", "a", "story", "about", "the", "fox", "and", "the", "sea")


class Ready(msgspec.Struct, frozen=True):
    base_url: str
    api_key: str
    models: list[str]


class Sample(msgspec.Struct, frozen=True):
    """One streamed request; times in seconds."""

    ttft_s: float
    total_s: float
    tokens: int

    @property
    def decode_tokens_per_s(self) -> float:
        """After the first piece of text, which is taken to be one token."""
        return (self.tokens - 1) / max(1e-9, self.total_s - self.ttft_s)


class _Usage(msgspec.Struct):
    completion_tokens: int


class _Choice(msgspec.Struct):
    text: str = ""


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


@contextmanager
def service(*arguments: str) -> Iterator[Ready]:
    """A service on a free port, in a folder of its own. Raises ConfigurationError."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as data_dir:
        command = [sys.executable, "-P", "-m", "tandem", "up", "--json", "--port=0"]
        command += [f"--data-dir={data_dir}", *arguments]
        # A session of its own: Ctrl-C reaches us, and we stop it in order.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # `up` has a deadline for it
            if not line:
                raise ConfigurationError("`tandem up` did not start: see above")
            yield msgspec.json.decode(line, type=Ready)
        finally:
            process.terminate()
            process.wait(_STOP_TIMEOUT_S)


async def load(ready: Ready, *, requests: int, concurrency: int, tokens: int) -> list[Sample]:
    """`requests` text completions of exactly `tokens` tokens, `concurrency` at a time."""
    numbers = iter(range(requests))
    samples: list[Sample] = []
    async with httpx2.AsyncClient(
        base_url=ready.base_url,
        headers={"Authorization": f"Bearer {ready.api_key}"},
        timeout=_REQUEST_TIMEOUT_S,
        trust_env=False,
    ) as http:

        async def worker() -> None:
            samples.extend([await _ask(http, ready, number, tokens) for number in numbers])

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker())
    return samples


async def _ask(http: httpx2.AsyncClient, ready: Ready, number: int, tokens: int) -> Sample:
    """The number opens the prompt, so that no two share a cached prefix."""
    request = {
        "model": ready.models[0],
        "prompt": f"{number} {' '.join(_WORDS)}",
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started, first_s, counted = perf_counter(), None, 0
    async with http.stream("POST", "completions", json=request) as response:
        async for line in response.aiter_lines():
            data = line.removeprefix("data: ")
            if not line or data == "[DONE]":
                continue
            if first_s is None:
                first_s = perf_counter() - started
            chunk = msgspec.json.decode(data, type=_Chunk)
            counted = chunk.usage.completion_tokens if chunk.usage else counted
    if first_s is None or counted != tokens:
        raise ProtocolError(f"{counted} tokens came, {tokens} were asked for")
    return Sample(first_s, perf_counter() - started, counted)


def decode_speed(samples: Sequence[Sample]) -> float:
    """The median request's tokens a second."""
    speeds = sorted(sample.decode_tokens_per_s for sample in samples)
    return speeds[len(speeds) // 2]
