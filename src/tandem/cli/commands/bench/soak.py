"""`tandem bench soak`: does anything grow under load?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.extras import require_torch_extra
from tandem.cli.failures import ExitCode
from tandem.cli.options import Json
from tandem.cli.output import note, print_json, print_plain, print_table, stderr

if TYPE_CHECKING:
    from tandem.bench import SoakReport


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 60.0,
    json: Json = False,
) -> None:
    """Loads a coordinator and a two-rank cluster without pause, and watches what they hold.

    Exits with 1 when a request failed, or when memory, open files or threads are more at the end
    than after warming up.

    \b
    Examples:
      tandem bench soak
      tandem bench soak --minutes 5 --json
    """
    require_torch_extra()
    from rich.progress import Progress

    from tandem.bench import run_soak

    with Progress(console=stderr(), transient=True) as progress:
        task = progress.add_task("under load", total=minutes * 60)
        report = asyncio.run(run_soak(minutes * 60, lambda s: progress.update(task, completed=s)))
    if json:
        print_json(report)
    else:
        _show(report)
    for failure in report.failures[:5]:
        note(failure)
    if not report.passed:
        raise typer.Exit(ExitCode.FAILURE)


def _show(report: SoakReport) -> None:
    from tandem.bench import verdict

    failed = len(report.failures)
    print_plain(f"{report.requests} requests in {report.seconds:.0f} s, {failed} failed")
    rows = [
        [
            one.process,
            one.measure,
            f"{one.early:.1f}",
            f"{one.late:.1f}",
            verdict(one.passed),
        ]
        for one in report.growth
    ]
    print_table(["", "", "after warming up", "at the end", ""], rows)
