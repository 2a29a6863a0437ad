"""`tandem bench`: figures that anybody can repeat."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tandem.cli.console import note, print_json, stdout
from tandem.cli.extras import require_torch_extra
from tandem.cli.options import Json

bench = typer.Typer(
    help="Measures, side by side in one run.", no_args_is_help=True, rich_markup_mode=None
)


@bench.callback()
def _group() -> None:
    """Keeps the benchmarks subcommands however many there are."""


@bench.command()
def cluster(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A checkpoint.", show_default="random weights of --size"
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="The size of the random checkpoint.")] = "1b",
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each variant takes.")] = 3,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens of each answer.")] = 32,
    streams: Annotated[int, typer.Option(min=2, help="Concurrent requests.")] = 8,
    json: Json = False,
) -> None:
    """Compares two ranks with a core each, tensor parallel and pipeline, to one rank with a core.

    \b
    Examples:
      tandem bench cluster
      tandem bench cluster --model ./my-model --rounds 5 --json
    """
    require_torch_extra()
    from tandem.bench.cluster import measure_cluster
    from tandem.engine.random_checkpoint import create_checkpoint

    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        if model is None:
            model = str(Path(folder) / size)
            note(f"Writing random weights of size {size} ...")
            create_checkpoint(Path(model), family="llama", size=size, dtype="bfloat16")
        report = measure_cluster(
            model, rounds=rounds, tokens=tokens, streams=streams, on_progress=note
        )
    if json:
        print_json(report)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("", "ONE STREAM tok/s", "RATIO", f"{streams} STREAMS tok/s", "RATIO"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for figure in report.figures:
        table.add_row(
            figure.variant,
            f"{figure.alone:.2f}",
            f"{report.ratio(figure.variant, lambda f: f.alone):.2f}",
            f"{figure.together:.2f}",
            f"{report.ratio(figure.variant, lambda f: f.together):.2f}",
        )
    stdout().print(table)
