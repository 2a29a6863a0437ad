"""Engines as processes that generate on command: Tandem's own, and what its peers have in common.

All of them get token ids and give greedy ones back, so that only the model is measured.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import msgspec
import psutil

from tandem.bench.service import BenchmarkFailed
from tandem.cluster.one_session import Asker
from tandem.engine import EngineOptions, SchedulerLimits, load_engine
from tandem.runtime import configure_logging

MAX_BATCH, CONTEXT = 16, 1024
_TIMEOUT_S = 900.0
_MIB = 1024 * 1024


class Times(msgspec.Struct, frozen=True):
    """Seconds until every sequence has its first token, and from there to the last."""

    first: float
    rest: float


class Generator(Protocol):
    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        """`tokens` greedy tokens for each prompt, all at once."""
        ...


class Wanted(msgspec.Struct, frozen=True):
    """A request: so many tokens after a prompt."""

    prompt: list[int]
    tokens: int


class Server(Protocol):
    def serve(self, wanted: list[Wanted]) -> float:
        """Seconds until all have all their tokens, `MAX_BATCH` at a time."""
        ...


class Job(msgspec.Struct, frozen=True):
    """A checkpoint to load, a folder for converted weights, and how many cores to use."""

    model: Path
    scratch: Path
    threads: int


class Contender(msgspec.Struct, frozen=True):
    """`package` is what must be installed, `kind` how its weights are stored."""

    name: str
    kind: str
    package: str
    make: Callable[[Job], Generator | Server]

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


class Running:
    """One contender in its process, with the model loaded."""

    def __init__(self, contender: Contender, pipe: Connection, process: psutil.Process) -> None:
        self.contender = contender
        self._pipe = pipe
        self._process = process

    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        times: Times = self._ask("generate", prompts, tokens)
        return times

    def serve(self, wanted: list[Wanted]) -> float:
        seconds: float = self._ask("serve", wanted)
        return seconds

    def _ask(self, method: str, *arguments: object) -> Any:  # noqa: ANN401 - as `_receive`
        self._pipe.send((method, arguments))
        return _receive(self._pipe)

    def memory_mib(self) -> float:
        return float(self._process.memory_info().rss) / _MIB


@contextmanager
def running(contender: Contender, job: Job) -> Iterator[Running]:
    """Raises BenchmarkFailed when the process ends, or does not answer."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(contender.make, job, theirs))
    child.start()
    theirs.close()
    try:
        _receive(ours)
        yield Running(contender, ours, psutil.Process(child.pid))
    finally:
        ours.close()
        child.join(10)
        child.kill()


def _receive(pipe: Connection) -> Any:  # noqa: ANN401 - what the other end of a pipe sends
    if not pipe.poll(_TIMEOUT_S):
        raise BenchmarkFailed(f"an engine did not answer within {_TIMEOUT_S:g} s")
    try:
        return pipe.recv()
    except EOFError as error:
        raise BenchmarkFailed("an engine ended without an answer") from error


def _serve(make: Callable[[Job], Generator | Server], job: Job, pipe: Connection) -> None:
    os.environ["OMP_NUM_THREADS"] = str(job.threads)
    configure_logging("error")  # standard output is for the report
    engine = make(job)
    pipe.send("loaded")
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            os._exit(0)  # engines have threads that nobody need wait for
        pipe.send(getattr(engine, method)(*arguments))


class _Tandem:
    def __init__(self, job: Job, quantize: str | None) -> None:
        self._asker = Asker()
        options = EngineOptions(
            directory=job.model,
            dtype="bfloat16",
            quantize=quantize,
            threads=job.threads,
            kv_tokens=MAX_BATCH * CONTEXT,
            scheduling=SchedulerLimits(max_sequences=MAX_BATCH),
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


def tandem(job: Job) -> _Tandem:
    return _Tandem(job, None)


def tandem_int8(job: Job) -> _Tandem:
    return _Tandem(job, "int8")
