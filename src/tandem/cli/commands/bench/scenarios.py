"""`tandem bench scenarios`: load on real processes, and where the time of requests goes."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.extras import require_torch_extra
from tandem.cli.failures import ExitCode
from tandem.cli.options import Json
from tandem.cli.output import note, print_json, stderr, stdout
from tandem.errors import ConfigurationError

if TYPE_CHECKING:
    from tandem.bench import Outcome, Scenario, ScenarioReport


def scenarios(
    only: Annotated[
        list[str] | None,
        typer.Option(help="The scenario to run; repeatable.", show_default="all of them"),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the report here, as Markdown.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the report here, as a page with plots.")
    ] = None,
    json: Json = False,
) -> None:
    """Runs load scenarios, takes the latency of every request apart, and checks it.

    Each starts a coordinator and providers of its own, on this machine. Exits with 1 when a
    request failed, a time is missing or a bound is broken.

    \b
    Examples:
      tandem bench scenarios
      tandem bench scenarios --html report.html --markdown report.md
      tandem bench scenarios --only 1-provider-streaming --only 3-provider-kills --json
    """
    require_torch_extra()
    from tandem.bench import as_markdown, as_page, make_report

    report = make_report(_run(_chosen(only)))
    for path, text in ((markdown, as_markdown), (html, as_page)):
        if path is not None:
            path.write_text(text(report), "utf-8")
            note(f"Wrote {path}.")
    if json:
        print_json(report)
    else:
        _show(report)
    if not report.passed:
        raise typer.Exit(ExitCode.FAILURE)


def _chosen(only: list[str] | None) -> list[Scenario]:
    from tandem.bench import SCENARIOS

    known = {scenario.name: scenario for scenario in SCENARIOS}
    for name in only or ():
        if name not in known:
            raise ConfigurationError(f"--only {name!r} is none of {', '.join(known)}")
    return [known[name] for name in only or known]


def _run(chosen: list[Scenario]) -> list[Outcome]:
    import uvloop
    from rich.progress import Progress

    from tandem.bench import create_models, run_scenario
    from tandem.runtime import configure_logging

    configure_logging("error")
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder,
        Progress(console=stderr(), transient=True, disable=not stderr().is_terminal) as progress,
    ):
        models = create_models(Path(folder))
        for scenario in chosen:
            task = progress.add_task(scenario.name, total=scenario.requests)
            run = run_scenario(scenario, models, partial(progress.advance, task))
            outcomes.append(uvloop.run(run))
    return outcomes


def _show(report: ScenarioReport) -> None:
    from rich.table import Table

    from tandem.bench import verdict

    for outcome in report.outcomes:
        colour = "green" if outcome.passed else "red"
        stdout().print(
            f"[bold]{outcome.scenario.name}[/]  {outcome.scenario.requests} requests in"
            f" {outcome.taken_s:.1f} s  [{colour}]{verdict(outcome.passed)}[/]",
            markup=True,
        )
        table = Table("ms", box=None, pad_edge=False)
        for title in ("count", "mean", "median", "p95", "p99", "max"):
            table.add_column(title, justify="right")
        for name, stats in outcome.rows:
            table.add_row(name, str(stats.count), *(f"{value:.2f}" for value in stats.figures))
        stdout().print(table)
        for check in outcome.checks:
            if not check.passed:
                words = f"[red]FAIL[/] {check.name}: {check.value}, must be {check.bound}"
                stdout().print(words, markup=True)
        for failure in outcome.failures:
            stdout().print(f"failed: {failure}", markup=False)
        stdout().print()
