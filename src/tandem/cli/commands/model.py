"""`tandem model`: checkpoints on disk, made and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tandem.cli.discovery import Section
from tandem.cli.extras import require_torch_extra
from tandem.cli.options import Dtype, Json
from tandem.cli.output import note, print_json, print_plain, stderr, stdout
from tandem.errors import ConfigurationError

SECTION = Section.LOOK

model = typer.Typer(
    help="Creates and inspects model checkpoints.", no_args_is_help=True, rich_markup_mode=None
)


@model.command()
def create(
    directory: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    family: Annotated[str, typer.Option(help="The architecture, e.g. llama or qwen3.")] = "llama",
    size: Annotated[str, typer.Option(help="The size, e.g. tiny, 300m or 1b.")] = "tiny",
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = 0,
    dtype: Annotated[Dtype, typer.Option(help="Number format of the weights.")] = Dtype.BFLOAT16,
    json: Json = False,
) -> None:
    """Writes a checkpoint with random weights: it talks nonsense at a real model's speed.

    \b
    Examples:
      tandem model create /tmp/tiny
      tandem model create /tmp/bench --family llama --size 1b --dtype bfloat16
      tandem up --model /tmp/bench
    """
    require_torch_extra()
    from tandem.engine import SIZES, create_checkpoint

    if size not in SIZES:
        raise ConfigurationError(f"there is no size {size!r}: choose one of {', '.join(SIZES)}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigurationError(f"{directory} is not an empty folder: choose another")
    if dtype is Dtype.AUTO:
        raise ConfigurationError("--dtype auto needs an existing model: name a format")
    from rich.progress import Progress

    with Progress(console=stderr(), transient=True, disable=not stderr().is_terminal) as progress:
        task = progress.add_task("Writing weights", total=None)
        create_checkpoint(
            directory,
            family=family,
            size=size,
            seed=seed,
            dtype=dtype.value,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if json:
        print_json({"directory": str(directory.absolute())})
        return
    print_plain(f"Wrote {directory}")
    note(f"Serve it with: tandem up --model {directory}")


@model.command()
def inspect(
    name: Annotated[str, typer.Argument(help="A checkpoint folder, a GGUF file, or tandem-demo.")],
    json: Json = False,
) -> None:
    """Shows what a checkpoint holds, without loading its weights.

    \b
    Examples:
      tandem model inspect tandem-demo
      tandem model inspect ./my-model-Q4_K_M.gguf --json
    """
    require_torch_extra()
    import msgspec

    from tandem.engine import inspect_checkpoint, resolve_model

    summary = inspect_checkpoint(resolve_model(name))
    if json:
        print_json(summary)
        return
    from rich.table import Table

    fields = msgspec.to_builtins(summary)
    table = Table(box=None, show_header=False, pad_edge=False)
    for field, value in fields.items():
        table.add_row(field.replace("_", " "), _readable(field, value))
    stdout().print(table, markup=False)


def _readable(field: str, value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict) and field.endswith("bytes"):
        return ", ".join(f"{name}: {_readable(field, size)}" for name, size in value.items())
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    if field.endswith("bytes") and isinstance(value, int):
        return f"{value:,} ({value / 2**20:,.1f} MiB)"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
