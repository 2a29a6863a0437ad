"""`tandem bench coordinator`: one coordinator under load, and beside another gateway."""

from __future__ import annotations

import shutil
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tandem.cli.extras import require_torch_extra
from tandem.cli.failures import ExitCode
from tandem.cli.options import Json
from tandem.cli.output import note, print_json, print_plain, print_table

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tandem.bench.gateways import GatewayReport
    from tandem.bench.load import Load, LoadReport
    from tandem.bench.scaling import Scaling

Result = TypeVar("Result")


class Part(StrEnum):
    LOAD = "load"
    SCALING = "scaling"
    GATEWAYS = "gateways"


def coordinator(
    only: Annotated[
        list[Part] | None, typer.Option(help="Part to run; may be given again.", show_default="all")
    ] = None,
    providers: Annotated[int, typer.Option(min=1, help="load: simulated providers.")] = 5000,
    streams: Annotated[int, typer.Option(min=1, help="load: streams at a time.")] = 500,
    requests: Annotated[int, typer.Option(min=1, help="load: streams in all.")] = 2000,
    tokens: Annotated[int, typer.Option(min=1, help="load: tokens of each.")] = 64,
    token_ms: Annotated[
        float | None, typer.Option(min=0.0, help="load: time between tokens.", show_default="none")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="scaling, gateways: turns of each.")] = 3,
    litellm: Annotated[
        Path | None,
        typer.Option(
            exists=True, help="gateways: LiteLLM's command.", show_default="litellm on the PATH"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Loads a coordinator with simulated providers and streams, and compares it with LiteLLM.

    load: checks every token. scaling: what a chunk costs with ever more streams and providers.
    gateways: requests a second and added latency, beside LiteLLM's proxy before the same backend.
    Coordinator and load share the cores. Exits with 1 when an answer is wrong or missing.

    \b
    Examples:
      tandem bench coordinator
      tandem bench coordinator --only load --providers 10 --streams 100 --token-ms 20 --json
      tandem bench coordinator --only gateways --litellm ~/litellm/bin/litellm
    """
    require_torch_extra()
    from tandem.bench.load import Load

    load = Load(
        providers=providers,
        streams=streams,
        requests=requests,
        tokens=tokens,
        token_s=None if token_ms is None else token_ms / 1e3,
    )
    parts = only or list(Part)
    reports: dict[str, object] = {}
    if Part.LOAD in parts:
        reports[Part.LOAD] = _load(load, show=not json)
    if Part.SCALING in parts:
        reports[Part.SCALING] = _scaling(rounds, show=not json)
    if Part.GATEWAYS in parts:
        reports[Part.GATEWAYS] = _gateways(rounds, litellm, show=not json)
    if json:
        print_json(reports)


def _load(load: Load, *, show: bool) -> LoadReport:
    """Raises typer.Exit when an answer is wrong or missing."""
    from tandem.bench.load import measure_load

    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        report = _run(measure_load(Path(folder), load, note))
    if show:
        _show_load(report)
    if report.wrong or report.failed:
        note(f"{report.wrong} answers were wrong, {report.failed} failed")
        raise typer.Exit(ExitCode.FAILURE)
    return report


def _scaling(rounds: int, *, show: bool) -> list[Scaling]:
    from tandem.bench.scaling import measure_scaling

    found = _run(measure_scaling(rounds, note))
    if show:
        titles = ["providers", "streams", "CPU when idle", "a request, ms", "a chunk, µs"]
        rows = [
            [
                f"{one.providers}",
                f"{one.streams}",
                f"{one.idle:.1%}",
                f"{one.request_ms:.2f}",
                f"{one.chunk_us:.1f}",
            ]
            for one in found
        ]
        print_table(titles, rows)
    return found


def _gateways(rounds: int, litellm: Path | None, *, show: bool) -> GatewayReport:
    from tandem.bench.gateways import LITELLM, GatewayLoad, measure_gateways

    found = shutil.which("litellm")
    command = litellm or (Path(found) if found else None)
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        report = _run(measure_gateways(Path(folder), GatewayLoad(rounds), command, note))
    if show:
        _show_gateways(report)
    if command is None:
        note(f"{LITELLM} is not on the PATH: pip install 'litellm[proxy]', or name it (--litellm)")
    return report


def _run(measuring: Coroutine[None, None, Result]) -> Result:
    import uvloop

    return uvloop.run(measuring)


def _show_load(report: LoadReport) -> None:
    load = report.load
    print_plain(f"{load.providers} providers, {load.requests} streams, {load.streams} at a time")
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


def _show_gateways(report: GatewayReport) -> None:
    direct = f"{report.direct_calm_ms:.2f} and {report.direct_brisk_ms:.2f} ms"
    print_plain(f"the first token straight from the backend comes after {direct}")
    streams = f"{report.load.streams} streams of"
    titles = {
        "requests_per_s": "requests/s",
        "cpu_ms_per_request": "CPU a request, ms",
        "chunks_per_s": "chunks/s",
        "added_calm_ms": f"added with {streams} 4 tokens/s, ms",
        "added_brisk_ms": f"added with {streams} 20 tokens/s, ms",
    }
    rows = []
    for field, title in titles.items():
        values = [float(getattr(gateway, field)) for gateway in report.gateways]
        ratios = [f"{values[0] / value:.2f}" for value in values[1:]]
        rows.append([title, *(f"{value:.2f}" for value in values), *ratios])
    names = [gateway.name for gateway in report.gateways]
    print_table(["", *names, *(f"{names[0]}/{name}" for name in names[1:])], rows)
