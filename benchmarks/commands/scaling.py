"""`python -m benchmarks scaling`: what providers, requests and chunks cost a coordinator."""

from __future__ import annotations

import uvloop

from tandem.cli.bench_options import Rounds
from tandem.cli.options import Json
from tandem.cli.output import note, print_json, print_table


def scaling(rounds: Rounds = 3, json: Json = False) -> None:
    """Measures what a chunk costs a coordinator with ever more streams and simulated providers.

    \b
    Examples:
      python -m benchmarks scaling
      python -m benchmarks scaling --rounds 1 --json
    """
    from benchmarks.relay.scaling import measure_scaling

    found = uvloop.run(measure_scaling(rounds, note))
    if json:
        print_json(found)
        return
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
