"""`tandem bench engine`: Tandem's engine beside its peers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.console import note, print_json, print_plain, print_table
from tandem.cli.extras import require_torch_extra
from tandem.cli.options import Json

if TYPE_CHECKING:
    from tandem.bench.engine import Figure, Report

_INSTALL = {
    "llama.cpp": "pip install llama-cpp-python gguf",
    "transformers": "pip install transformers",
}


def engine(
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
        int, typer.Option(min=1, max=768, help="Tokens of the prompt to prefill.")
    ] = 512,
    tokens: Annotated[
        int, typer.Option(min=2, max=768, help="Tokens to decode in each sequence.")
    ] = 32,
    json: Json = False,
) -> None:
    """Compares prefill and decoding with llama.cpp and transformers, on the same weights.

    Peers take part where they are installed.

    \b
    Examples:
      tandem bench engine
      tandem bench engine --size 300m --rounds 5 --json
      tandem bench engine --model ./my-llama --threads 8
    """
    require_torch_extra()
    from tandem import engine as own
    from tandem.bench.engine import measure_engines
    from tandem.engine.random_checkpoint import create_checkpoint

    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        if model is None:
            directory = Path(folder) / size
            note(f"Writing random weights of size {size} ...")
            create_checkpoint(directory, family="llama", size=size, dtype="bfloat16")
        else:
            directory = own.resolve_model(model)
        report = measure_engines(
            directory,
            Path(folder),
            threads=threads,
            rounds=rounds,
            prompt=prompt,
            tokens=tokens,
            on_progress=note,
        )
    if json:
        print_json(report)
    else:
        _show(report)
    for name in report.missing:
        note(f"{name} is not installed here: {_INSTALL[name]}")


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
