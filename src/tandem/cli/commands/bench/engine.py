"""`tandem bench engine`: Tandem's engine beside its peers."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.extras import require_torch_extra
from tandem.cli.options import Json
from tandem.cli.output import note, print_json, print_plain, print_table

if TYPE_CHECKING:
    from tandem.bench.engine import Figure, Report
    from tandem.bench.mixed import MixedFigure

_INSTALL = {
    "llama.cpp": "pip install llama-cpp-python gguf",
    "transformers": "pip install transformers",
}


class Part(StrEnum):
    SHAPES = "shapes"
    STREAMS = "streams"


def engine(
    only: Annotated[
        list[Part] | None, typer.Option(help="Part to run; may be given again.", show_default="all")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A Llama checkpoint.", show_default="random weights of --size"
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="The size of the random checkpoint.")] = "1b",
    threads: Annotated[int, typer.Option(min=1, help="Cores that each engine may use.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each engine takes.")] = 3,
    prompt: Annotated[
        int, typer.Option(min=1, max=768, help="shapes: tokens of the prompt to prefill.")
    ] = 512,
    tokens: Annotated[
        int, typer.Option(min=2, max=768, help="shapes: tokens to decode in each sequence.")
    ] = 32,
    requests: Annotated[
        int, typer.Option(min=1, help="streams: requests, sixteen at a time.")
    ] = 32,
    mean_tokens: Annotated[
        int, typer.Option(min=2, max=256, help="streams: mean tokens of an answer.")
    ] = 32,
    json: Json = False,
) -> None:
    """Compares the engine with llama.cpp and transformers, on the same weights.

    shapes: prefill, and decoding of 1 to 16 sequences of one length. streams: answers of different
    lengths, beside transformers' generate and continuous batching. Peers take part where they are
    installed.

    \b
    Examples:
      tandem bench engine
      tandem bench engine --only shapes --size 300m --rounds 5 --json
      tandem bench engine --model ./my-llama --threads 8
    """
    require_torch_extra()
    from tandem import engine as own
    from tandem.bench.engine import measure_engines
    from tandem.bench.mixed import measure_mixed
    from tandem.engine.checkpoint.random_checkpoint import create_checkpoint

    parts = only or list(Part)
    reports: dict[str, Report | list[MixedFigure]] = {}
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        if model is None:
            directory = Path(folder) / size
            note(f"Writing random weights of size {size} ...")
            create_checkpoint(directory, family="llama", size=size, dtype="bfloat16")
        else:
            directory = own.resolve_model(model)
        if Part.SHAPES in parts:
            reports[Part.SHAPES] = report = measure_engines(
                directory,
                Path(folder),
                threads=threads,
                rounds=rounds,
                prompt=prompt,
                tokens=tokens,
                on_progress=note,
            )
            if not json:
                _show(report)
            for name in report.missing:
                note(f"{name} is not installed here: {_INSTALL[name]}")
        if Part.STREAMS in parts:
            reports[Part.STREAMS] = figures = measure_mixed(
                directory,
                threads=threads,
                rounds=rounds,
                requests=requests,
                mean_tokens=mean_tokens,
                on_progress=note,
            )
            if not json:
                _show_streams(figures)
    if json:
        print_json(reports)


def _show_streams(figures: list[MixedFigure]) -> None:
    ours = figures[0].tokens_per_s
    rows = [
        [f"{one.name} {one.kind}", f"{one.tokens_per_s:.1f}", f"{ours / one.tokens_per_s:.2f}"]
        for one in figures
    ]
    print_plain("")
    print_table(["16 streams of different lengths", "tokens/s", "Tandem by"], rows)


def _show(report: Report) -> None:
    ours, *others = report.figures
    workloads = list(ours.tokens_per_s)
    speeds = []
    for figure in report.figures:
        row = [f"{figure.tokens_per_s[workload]:.1f}" for workload in workloads]
        speeds.append([_name(figure), *row, f"{figure.memory_mib:.0f}"])
    print_table(["tokens/s", *workloads, "MiB"], speeds)
    ratios = [
        [_name(figure), *(f"{report.ratio(figure, workload):.2f}" for workload in workloads)]
        for figure in others
    ]
    print_plain("")
    print_table([f"{_name(ours)} by", *workloads], ratios)


def _name(figure: Figure) -> str:
    return f"{figure.name} {figure.kind}"
