"""Runs one load scenario: a coordinator and providers of its own, as processes.

Consumers are connections of this process. All requests are greedy, and no two prompts are alike.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from tandem.bench.latency import (
    DECODE_TPS,
    SEGMENTS,
    TOTAL,
    Check,
    Stats,
    checks,
    decompose,
    summarise,
)
from tandem.bench.scenarios import Scenario
from tandem.bench.service import HOST, Service, running_service
from tandem.bench.streams import TimedAnswer, complete_chat
from tandem.errors import TandemError
from tandem.up import local_rank_arguments

_REQUEST_TIMEOUT_S = 300.0
#: From the return of one that was killed to the next kill.
_KILL_EVERY_S = 2.0
_WORDS = (
    "river stone letter garden winter music yellow market paper window captain silver morning "
    "bridge forest answer island copper travel village harvest mirror engine quiet basket "
    "journey thunder candle orange planet meadow friend summer castle lantern number wagon"
)


class Models(msgspec.Struct, frozen=True):
    """Folders of checkpoints; they are served by their names."""

    first: Path
    second: Path


def create_models(folder: Path) -> Models:
    """The shipped model with a context for long prompts, and one of random weights."""
    from tandem.engine import create_checkpoint, resolve_model

    models = Models(folder / "model-a", folder / "model-b")
    shutil.copytree(resolve_model("tandem-demo"), models.first)
    config = models.first / "config.json"
    fields = msgspec.json.decode(config.read_bytes())
    config.write_bytes(msgspec.json.encode(fields | {"max_position_embeddings": 16_384}))
    create_checkpoint(models.second, family="llama", size="small", dtype="bfloat16")
    return models


class Outcome(msgspec.Struct, frozen=True):
    """`samples` are milliseconds by segment, one a request that succeeded."""

    scenario: Scenario
    taken_s: float
    kills: int
    failures: list[str]
    stats: dict[str, Stats]
    checks: list[Check]
    samples: list[dict[str, float]]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def rows(self) -> list[tuple[str, Stats]]:
        """The segments in their order, the total first; what never took time is left out."""
        order = (TOTAL, *SEGMENTS, DECODE_TPS)
        known = [(name, self.stats[name]) for name in order if name in self.stats]
        return [(name, stats) for name, stats in known if stats.max > 0 or name != "retries"]


async def run_scenario(
    scenario: Scenario, models: Models, on_answer: Callable[[], None]
) -> Outcome:
    """Raises BenchmarkFailed when a process does not start."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        async with running_service(Path(folder)) as service:
            keys = service.create_keys(scenario.users)
            async with providers_running(service, scenario, models) as kills:
                await service.until_routable(scenario.providers + scenario.second, keys[0])
                began = time.perf_counter()
                answers = await _ask_all(scenario, models, service.port, keys, on_answer)
                taken_s = time.perf_counter() - began
                killed = len(kills)
    samples = [decompose(a, scenario.tokens) for a in answers if isinstance(a, TimedAnswer)]
    return Outcome(
        scenario,
        taken_s,
        killed,
        [str(answer) for answer in answers if not isinstance(answer, TimedAnswer)],
        summarise(samples),
        checks(samples, scenario.requests),
        samples,
    )


@asynccontextmanager
async def providers_running(
    service: Service, scenario: Scenario, models: Models
) -> AsyncIterator[list[str]]:
    """The scenario's providers, as processes; gives the names of those killed so far."""
    killed: list[str] = []
    starts = [
        (name, [f"--model={models.first}", *_common(scenario), *more])
        for name, more in _nodes(service, scenario)
    ]
    starts += [
        (f"second-{number}", [f"--model={models.second}", *_common(scenario)])
        for number in range(scenario.second)
    ]
    async with asyncio.TaskGroup() as tasks:
        for name, options in starts:
            tasks.create_task(service.start_provider(name, options))
    async with asyncio.TaskGroup() as tasks:
        killer = tasks.create_task(_kill(service, dict(starts), killed)) if scenario.kills else None
        yield killed
        if killer is not None:
            killer.cancel()


def _common(scenario: Scenario) -> list[str]:
    return [
        "--device=cpu",  # whatever there is: a core each, as many as there are providers
        "--threads=1",
        "--kv-tokens=16384",
        f"--max-sequences={scenario.max_sequences}",
    ]


def _nodes(service: Service, scenario: Scenario) -> list[tuple[str, list[str]]]:
    """The processes that serve model A, and by what options they form a cluster, if any."""
    if scenario.ranks == 1:
        return [(f"first-{number}", []) for number in range(scenario.providers)]
    names = [f"rank-{rank}" for rank in range(scenario.ranks)]
    service.pair(names)
    options = local_rank_arguments(scenario.ranks, scenario.parallelism)
    return list(zip(names, options, strict=True))


async def _kill(service: Service, starts: dict[str, list[str]], killed: list[str]) -> None:
    """One after the other dies without a word, and is started again."""
    while True:
        for name, options in starts.items():
            await asyncio.sleep(_KILL_EVERY_S)
            killed.append(name)
            await service.kill(name)
            await service.start_provider(name, options)


async def _ask_all(
    scenario: Scenario,
    models: Models,
    port: int,
    keys: list[str],
    on_answer: Callable[[], None],
) -> list[TimedAnswer | Exception]:
    places = asyncio.Semaphore(scenario.concurrency)
    names = [models.first.name] * scenario.providers + [models.second.name] * scenario.second

    async def one(number: int) -> TimedAnswer | Exception:
        request = _request(scenario, number, names[number % len(names)])
        async with places:
            try:
                async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                    key = keys[number % len(keys)]
                    return await complete_chat(HOST, port, key, request, stream=scenario.stream)
            except (TandemError, OSError) as error:
                return error
            finally:
                on_answer()

    return await asyncio.gather(*(one(number) for number in range(scenario.requests)))


def _request(scenario: Scenario, number: int, model: str) -> dict[str, Any]:
    prompt = words(f"{scenario.name} {number}", scenario.prompt_bytes)
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": scenario.tokens,
        "temperature": 0,
        "ignore_eos": True,
    }


def words(salt: str, length: int) -> str:
    """So many characters of common words, others for every salt."""
    chance = random.Random(salt)  # noqa: S311 - guards nothing
    known, text = _WORDS.split(), ""
    while len(text) < length:
        text += chance.choice(known) + " "
    return text[:length]
