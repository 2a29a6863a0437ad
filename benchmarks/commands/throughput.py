"""`python -m benchmarks throughput`: one coordinator under many streams, every token checked."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from tandem.cli.failures import ExitCode
from tandem.cli.options import Json
from tandem.cli.output import note, print_json, print_plain

if TYPE_CHECKING:
    from benchmarks.relay.throughput import Throughput


def throughput(
    providers: Annotated[int, typer.Option(min=1, help="Simulated providers.")] = 5000,
    streams: Annotated[int, typer.Option(min=1, help="Streams at a time.")] = 500,
    requests: Annotated[int, typer.Option(min=1, help="Streams in all.")] = 2000,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of each.")] = 64,
    token_ms: Annotated[
        float | None, typer.Option(min=0.0, help="Time between tokens.", show_default="none")
    ] = None,
    json: Json = False,
) -> None:
    """Runs streams through a coordinator with simulated providers, and checks every token.

    Coordinator, providers and consumers share the cores. Exits with 1 when an answer is wrong or
    missing.

    \b
    Examples:
      python -m benchmarks throughput
      python -m benchmarks throughput --providers 10 --streams 100 --token-ms 20 --json
    """
    from benchmarks.relay.throughput import Traffic, measure_throughput

    token_s = None if token_ms is None else token_ms / 1e3
    traffic = Traffic(providers, streams, requests, tokens, token_s)
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        report = uvloop.run(measure_throughput(Path(folder), traffic, note))
    if json:
        print_json(report)
    else:
        _show(report)
    if report.wrong or report.failed:
        note(f"{report.wrong} answers were wrong, {report.failed} failed")
        raise typer.Exit(ExitCode.FAILURE)


def _show(report: Throughput) -> None:
    traffic = report.traffic
    streams = f"{traffic.requests} streams, {traffic.streams} at a time"
    print_plain(f"{traffic.providers} providers, {streams}")
    print_plain(f"answers wrong or missing   {report.wrong + report.failed}")
    print_plain(f"all providers joined in    {report.join_s:.1f} s")
    print_plain(f"chunks a second            {report.chunks_per_s:.0f}")
    print_plain(
        f"a place, median and p99    {report.reserve_p50:.2f} and {report.reserve_p99:.2f} ms"
    )
    first = f"{report.first_token_p50:.0f} and {report.first_token_p99:.0f} ms"
    print_plain(f"first token                {first}")
    memory = f"{report.idle_mib:.0f}, {report.joined_mib:.0f}, {report.peak_mib:.0f} MiB"
    print_plain(f"memory idle, joined, peak  {memory}")
