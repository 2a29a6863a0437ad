"""Engines as processes that generate on command: Tandem's own, and its peers where installed.

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
import torch

from tandem.bench.service import BenchmarkFailed
from tandem.cluster.phases import Asker
from tandem.engine import EngineOptions, SchedulerLimits, load_engine

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
    make: Callable[[Job], Generator]

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
        self._pipe.send((prompts, tokens))
        times: Times = _receive(self._pipe)
        return times

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


def _serve(make: Callable[[Job], Generator], job: Job, pipe: Connection) -> None:
    os.environ["OMP_NUM_THREADS"] = str(job.threads)
    generator = make(job)
    pipe.send("loaded")
    while True:
        try:
            prompts, tokens = pipe.recv()
        except EOFError:
            os._exit(0)  # engines have threads that nobody need wait for
        pipe.send(generator.generate(prompts, tokens))


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


def tandem(job: Job) -> Generator:
    return _Tandem(job, None)


def tandem_int8(job: Job) -> Generator:
    return _Tandem(job, "int8")


class _Transformers:
    def __init__(self, job: Job) -> None:
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(job.threads)
        # The library's types know fewer streamers than its code.
        self._model: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.bfloat16)

    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        """Prompts must be of one length: padding would be computed for nothing."""
        clock = _StepClock()
        inputs = torch.tensor(prompts)
        began = time.perf_counter()
        with torch.inference_mode():
            self._model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                streamer=clock,
            )
        first, last = clock.times[1], clock.times[-1]  # the prompt itself comes at 0
        return Times(first - began, last - first)


class _StepClock:
    """A streamer: told of every step of `generate`."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is held back."""


def transformers(job: Job) -> Generator:
    return _Transformers(job)
