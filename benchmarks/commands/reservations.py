"""`python -m benchmarks reservations`: how long it takes to choose among many providers."""

from __future__ import annotations

from typing import Annotated

import typer

from tandem.cli.options import Json
from tandem.cli.output import print_json, print_table


def reservations(
    providers: Annotated[int, typer.Option(min=1, help="Providers to choose among.")] = 5000,
    requests: Annotated[int, typer.Option(min=1, help="Reservations.")] = 2000,
    json: Json = False,
) -> None:
    """Times reservations: some providers drawn and compared, as it is done, and all compared.

    \b
    Examples:
      python -m benchmarks reservations
      python -m benchmarks reservations --providers 500 --json
    """
    from benchmarks.relay.reservations import measure_reservations

    found = measure_reservations(providers, requests)
    if json:
        print_json(found)
        return
    rows = [[one.way, f"{one.median_ms:.3f}", f"{one.p99_ms:.3f}"] for one in found]
    print_table(["a reservation, ms", "median", "p99"], rows)
