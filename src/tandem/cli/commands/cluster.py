"""`tandem cluster`: what the clustered providers of this machine are doing."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import typer

from tandem.cli.cluster_options import STATUS_FILE
from tandem.cli.discovery import Section
from tandem.cli.failures import ExitCode
from tandem.cli.options import DataDir, Json
from tandem.cli.output import note, print_json, print_plain, printable, show_table
from tandem.protocol.cluster import Collectives, NodeReport
from tandem.runtime import data_dir_or_default

SECTION = Section.CLUSTER

cluster = typer.Typer(
    help="Shows this machine's clusters.", no_args_is_help=True, rich_markup_mode=None
)


@cluster.callback()
def _group() -> None:
    """Keeps `status` a subcommand although it is the only one."""


@cluster.command()
def status(json: Json = False, data_dir: DataDir = None) -> None:
    """Shows ranks, processes, links, how the model is divided, and why.

    \b
    Examples:
      tandem cluster status
      tandem cluster status --json | jq '.[].cluster.strategy'
    """
    reports = read_reports(data_dir_or_default(data_dir))
    if json:
        print_json(reports)
    elif not reports:
        note("No clustered provider runs on this machine: `tandem up --ranks 2` starts two.")
    for report in () if json else reports:
        _show(report)
    if not any(report.cluster.state == "active" for report in reports):
        raise typer.Exit(ExitCode.NOT_SERVING)


def read_reports(data_dir: Path) -> list[NodeReport]:
    """What the nodes that run have written, by rank; a dead one's file does not count."""
    paths = [data_dir / STATUS_FILE, *sorted(data_dir.glob(f"nodes/*/{STATUS_FILE}"))]
    found = []
    for path in paths:
        try:
            report = msgspec.json.decode(path.read_bytes(), type=NodeReport)
        except (FileNotFoundError, msgspec.MsgspecError):
            continue  # not there, or of another version
        if _is_alive(report.pid):
            found.append(report)
    return sorted(found, key=lambda report: (report.cluster.rank is None, report.cluster.rank or 0))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _show(report: NodeReport) -> None:
    own = report.cluster
    role = "" if own.rank is None else f", rank {own.rank} of {len(own.ranks)}"
    print_plain(
        f"{printable(own.name)} (pid {report.pid}): {own.state}{role}, {printable(report.model)}"
    )
    for peer, reason in own.refusals.items():
        print_plain(f"  not connected to {printable(peer)}: {printable(reason)}")
    if own.rank != 0:
        return
    print_plain(f"  {own.strategy}: {printable(own.why or '')}")
    if own.collectives is not Collectives.SEALED:
        print_plain(f"  {own.collectives}: activations cross the link UNENCRYPTED")
    rows = [
        [
            str(rank.rank),
            rank.name,
            rank.address,
            rank.layers,
            _figure(rank.round_trip_us, "us"),
            _figure(rank.mb_per_s, "MB/s"),
        ]
        for rank in own.ranks
    ]
    show_table(["RANK", "NODE", "ADDRESS", "LAYERS", "ROUND TRIP", "THROUGHPUT"], rows)


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f} {unit}"
