"""Options of measurements of engines and clusters, and what those of engines do alike."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tandem.cli.output import note, print_json, print_plain, print_table

if TYPE_CHECKING:
    from tandem.bench import Contender, EngineFigure, EngineReport, Ratios


class Part(StrEnum):
    """Of a measurement of engines: lengths that are alike, or those that a service has."""

    SHAPES = "shapes"
    STREAMS = "streams"


Checkpoint = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A checkpoint.", show_default="random weights of --size"),
]
Size = Annotated[str, typer.Option(help="The size of the random checkpoint.")]
Rounds = Annotated[int, typer.Option(min=1, help="Turns that each of those compared takes.")]


class EngineBenchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What engines are measured on, and with what."""

    only: Annotated[
        list[Part] | None, typer.Option(help="Part to run; repeatable.", show_default="all")
    ] = None
    model: Checkpoint = None
    size: Size = "1b"
    threads: Annotated[int, typer.Option(min=1, help="Cores that each engine may use.")] = 1
    rounds: Rounds = 3
    prompt: Annotated[
        int, typer.Option(min=1, max=768, help="shapes: tokens of the prompt to prefill.")
    ] = 512
    tokens: Annotated[
        int, typer.Option(min=2, max=768, help="shapes: tokens to decode in each sequence.")
    ] = 32
    requests: Annotated[int, typer.Option(min=1, help="streams: requests, sixteen at a time.")] = 32
    mean_tokens: Annotated[
        int, typer.Option(min=2, max=256, help="streams: mean tokens of an answer.")
    ] = 32


def measure(
    options: EngineBenchOptions,
    contenders: Mapping[Part, Sequence[Contender]],
    compare: Callable[[list[EngineFigure]], Ratios],
    *,
    json: bool,
) -> None:
    """Lets the contenders of each part take turns, and prints what came out."""
    from tandem.bench import Job, Shapes, Streams, Work, measure_engines

    work: dict[Part, Work] = {
        Part.SHAPES: Shapes(options.prompt, options.tokens),
        Part.STREAMS: Streams(options.requests, options.mean_tokens),
    }
    reports: dict[Part, EngineReport] = {}
    with checkpoint(options.model, options.size) as (directory, scratch):
        job = Job(directory, scratch, options.threads)
        for part in options.only or Part:
            reports[part] = report = measure_engines(
                work[part], contenders[part], compare, job, rounds=options.rounds, on_progress=note
            )
            if not json:
                _show(report)
            if report.missing:
                note(f"Not installed here: {', '.join(report.missing)}.")
    if json:
        print_json(reports)


@contextmanager
def checkpoint(model: str | None, size: str) -> Iterator[tuple[Path, Path]]:
    """The folder of `model`, or of random weights; and one for what is made of them meanwhile."""
    from tandem.engine import create_checkpoint, resolve_model

    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        scratch = Path(folder)
        if model is not None:
            yield resolve_model(model), scratch
            return
        note(f"Writing random weights of size {size} ...")
        create_checkpoint(scratch / size, family="llama", size=size, dtype="bfloat16")
        yield scratch / size, scratch


def _show(report: EngineReport) -> None:
    """Speeds by workload, and the ratios."""
    workloads = list(report.figures[0].tokens_per_s)
    speeds = []
    for figure in report.figures:
        row = [f"{figure.tokens_per_s[workload]:.1f}" for workload in workloads]
        speeds.append([figure.title, *row, f"{figure.memory_mib:.0f}"])
    print_table(["tokens/s", *workloads, "MiB"], speeds)
    print_plain("")
    ratios = [
        [what, *(f"{by[workload]:.2f}" if workload in by else "" for workload in workloads)]
        for what, by in report.ratios.items()
    ]
    print_table(["times as fast", *workloads], ratios)
    print_plain("")
