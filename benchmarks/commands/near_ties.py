"""`python -m benchmarks near-ties`: does a token depend on the batch, or on where it was made?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tandem.cli.options import Json
from tandem.cli.output import print_json, print_table


def near_ties(
    requests: Annotated[int, typer.Option(min=1, help="Requests, half greedy.")] = 32,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens of each answer.")] = 64,
    json: Json = False,
) -> None:
    """Counts tokens that differ between a request alone and the same one in a batch, or resumed.

    \b
    Examples:
      python -m benchmarks near-ties
      python -m benchmarks near-ties --requests 8 --tokens 16 --json
    """
    from benchmarks.engines.near_ties import measure_near_ties
    from tandem.runtime import configure_logging

    configure_logging("error")
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        found = measure_near_ties(Path(folder), requests, tokens)
    if json:
        print_json(found)
        return
    rows = [[f"{one.dtype}, {one.what}", f"{one.differences}", f"{one.tokens}"] for one in found]
    print_table(["", "first differences", "in tokens"], rows)
