"""Processes of this machine that a race measures, or loads others with."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tandem.bench import HOST, BenchmarkFailed
from tandem.coordinator import CoordinatorConfig, serve
from tandem.runtime import Stop, configure_logging, raise_descriptor_limit, run_service

JOIN_TOKEN = "join-bench"  # noqa: S105 - of a coordinator that lives for one benchmark
_TIMEOUT_S = 300.0


@contextmanager
def child(target: Callable[..., None], *arguments: object) -> Iterator[tuple[Any, psutil.Process]]:
    """A process that runs `target(*arguments, say)`, and what it says first.

    Raises BenchmarkFailed when it says nothing.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*arguments, theirs.send))
    process.start()
    theirs.close()
    try:
        try:
            said = ours.recv() if ours.poll(_TIMEOUT_S) else None
        except EOFError:
            said = None
        if said is None:
            raise BenchmarkFailed(f"{target.__name__.strip('_')} did not start")
        yield said, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join(_TIMEOUT_S)


def coordinator(data_dir: Path, say: Callable[[object], None]) -> None:
    """For `child`: a coordinator, which says its port."""
    raise_descriptor_limit()
    configure_logging("error")
    config = CoordinatorConfig(
        host=HOST, port=0, data_dir=data_dir, join_token=JOIN_TOKEN, drain_timeout_s=0.5
    )

    async def main(stop: Stop) -> None:
        await serve(config, stop, on_listening=say)

    run_service(main)


def cpu_s(process: psutil.Process) -> float:
    """Processor time that it has used."""
    times = process.cpu_times()
    return float(times.user + times.system)
