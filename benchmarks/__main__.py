"""`python -m benchmarks`: one command a race, run from the root of the repository."""

from __future__ import annotations

import typer

from benchmarks.commands.attacks import attacks
from benchmarks.commands.engines import engines
from benchmarks.commands.experts import experts
from benchmarks.commands.gateways import gateways
from benchmarks.commands.near_ties import near_ties
from benchmarks.commands.quality import quality
from benchmarks.commands.reservations import reservations
from benchmarks.commands.scaling import scaling
from benchmarks.commands.service import service
from benchmarks.commands.throughput import throughput
from tandem.cli.failures import run_commands
from tandem.cli.option_groups import grouped

app = typer.Typer(
    help="Races against other engines and gateways, and loads with simulated providers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for race in (
    engines,
    experts,
    gateways,
    throughput,
    scaling,
    reservations,
    service,
    near_ties,
    quality,
    attacks,
):
    app.command()(grouped(race))


def main() -> None:
    """Ends the process with the exit codes of `tandem`."""
    run_commands(app, "python -m benchmarks")


if __name__ == "__main__":
    main()
