"""`tandem bench link`: sums over the sealed link beside gloo's in plaintext."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.cli.extras import require_torch_extra
from tandem.cli.options import Json
from tandem.cli.output import print_json, print_table

if TYPE_CHECKING:
    from tandem.bench import Latency


def link(json: Json = False) -> None:
    """Compares sums over two ranks, sealed and in plaintext with gloo, from 1 KiB to 16 MiB.

    Both ranks run on this machine.

    \b
    Examples:
      tandem bench link
      tandem bench link --json
    """
    require_torch_extra()
    from tandem.bench import measure_link
    from tandem.runtime import configure_logging

    configure_logging("error")
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        latencies = measure_link(Path(folder))
    if json:
        print_json(latencies)
    else:
        _show(latencies)


def _show(latencies: list[Latency]) -> None:
    titles = ["KiB", "sealed, µs", "gloo plaintext, µs", "sealed/gloo"]
    rows = [
        [
            str(found.size // 1024),
            f"{found.sealed_s * 1e6:.0f}",
            f"{found.gloo_s * 1e6:.0f}",
            f"{found.ratio:.2f}",
        ]
        for found in latencies
    ]
    print_table(titles, rows)
