"""`python -m benchmarks gateways`: a coordinator beside LiteLLM's proxy."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from tandem.cli.bench_options import Rounds
from tandem.cli.options import Json
from tandem.cli.output import note, print_json, print_plain, print_table

if TYPE_CHECKING:
    from benchmarks.gateways.race import GatewayReport


def gateways(
    rounds: Rounds = 3,
    litellm: Annotated[
        Path | None,
        typer.Option(exists=True, help="LiteLLM's command.", show_default="litellm on the PATH"),
    ] = None,
    json: Json = False,
) -> None:
    """Compares a coordinator with LiteLLM's proxy: requests a second, chunks, added latency.

    Both stand in front of the same backend, which answers with numbers, and have the same core.

    \b
    Examples:
      python -m benchmarks gateways
      python -m benchmarks gateways --litellm ~/litellm/bin/litellm --rounds 5 --json
    """
    from benchmarks.gateways.race import LITELLM, RaceSettings, measure_gateways

    found = shutil.which("litellm")
    command = litellm or (Path(found) if found else None)
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        race = measure_gateways(Path(folder), RaceSettings(rounds), command, note)
        report = uvloop.run(race)
    if json:
        print_json(report)
    else:
        _show(report)
    if command is None:
        note(f"{LITELLM} is not on the PATH: see benchmarks/README.md, or name it (--litellm)")


def _show(report: GatewayReport) -> None:
    direct = f"{report.direct_calm_ms:.2f} and {report.direct_brisk_ms:.2f} ms"
    print_plain(f"the first token straight from the backend comes after {direct}")
    streams = f"{report.settings.streams} streams of"
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
