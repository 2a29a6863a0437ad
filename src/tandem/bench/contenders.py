"""Engines that take turns, each in a process of its own: what all that are compared have in common.

They get token ids and give greedy ones back, so that only the model is measured.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import psutil

from tandem.bench.service import BenchmarkFailed
from tandem.runtime import configure_logging

T = TypeVar("T")

#: How many sequences an engine runs at a time, and how many tokens each may have.
MAX_BATCH, CONTEXT = 16, 1024
_TIMEOUT_S = 900.0
_MIB = 1024 * 1024


class Times(msgspec.Struct, frozen=True):
    """Seconds until every sequence has its first token, and from there to the last."""

    first: float
    rest: float


class Generator(Protocol):
    """What takes part in shapes has."""

    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        """`tokens` greedy tokens for each prompt, all at once."""
        ...


class Wanted(msgspec.Struct, frozen=True):
    """A request: so many tokens after a prompt."""

    prompt: list[int]
    tokens: int


class Server(Protocol):
    """What takes part in streams has."""

    def serve(self, wanted: list[Wanted]) -> float:
        """Seconds until all have all their tokens, `MAX_BATCH` at a time."""
        ...


class Job(msgspec.Struct, frozen=True):
    """A checkpoint to load, a folder for converted weights, and how many cores to use."""

    model: Path
    scratch: Path
    threads: int


class Contender(msgspec.Struct, frozen=True):
    """An engine that takes part when it is installed, and how it is loaded."""

    name: str
    #: How its weights are stored, or what else tells two of one name apart.
    kind: str
    #: Its import name.
    package: str
    #: Called in the contender's own process.
    make: Callable[[Job], Generator | Server]

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    @property
    def title(self) -> str:
        return f"{self.name} {self.kind}"


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


class Turns(msgspec.Struct, Generic[T], frozen=True):
    """What one contender gave, round by round, and the memory of its process after the last."""

    contender: Contender
    taken: list[T]
    memory_mib: float


def take_turns(
    contenders: Sequence[Contender],
    job: Job,
    rounds: int,
    measure: Callable[[Running, int], T],
    on_progress: Callable[[str], None],
) -> list[Turns[T]]:
    """Loads all contenders, then calls `measure(contender, round)` for one after the other.

    Taking turns, a noisy moment of the machine meets all of them; each waits while others run.
    Raises BenchmarkFailed when one ends, or does not answer.
    """
    with ExitStack() as stack:
        loaded = []
        for contender in contenders:
            on_progress(f"loading {contender.title}")
            loaded.append(stack.enter_context(running(contender, job)))
        taken: list[list[T]] = [[] for _ in loaded]
        for number in range(rounds):
            for one, results in zip(loaded, taken, strict=True):
                on_progress(f"round {number + 1} of {rounds}: {one.contender.title}")
                results.append(measure(one, number))
        return [
            Turns(one.contender, results, one.memory_mib())
            for one, results in zip(loaded, taken, strict=True)
        ]
