"""`python -m benchmarks experts`: does a model with experts read those of a token alone?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tandem.cli.options import Json, Quantization
from tandem.cli.output import print_json, print_table


def experts(
    dtype: Annotated[str, typer.Option(help="Of the weights in memory.")] = "bfloat16",
    quantize: Annotated[
        Quantization | None, typer.Option(help="Store weights in fewer bits.", show_default="no")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that compute.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Answers; the best token counts.")] = 5,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 32,
    json: Json = False,
) -> None:
    """Decodes one sequence by a small model of 128 experts, eight a token.

    In turns with it, a dense model of as many bytes a token; and how fast memory gives those.

    \b
    Examples:
      python -m benchmarks experts
      python -m benchmarks experts --quantize int4
      python -m benchmarks experts --rounds 3 --tokens 16 --json
    """
    from benchmarks.engines.experts import measure_experts
    from tandem import engine
    from tandem.runtime import configure_logging

    configure_logging("error")
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        kept = None if quantize is None else engine.Quantization(quantize)
        found = measure_experts(
            Path(folder), kept, dtype=dtype, threads=threads, rounds=rounds, tokens=tokens
        )
    if json:
        print_json(found)
        return
    print_table(
        [found.weights, ""],
        [
            ["read for a token", f"{found.token_mb:,.0f} MB"],
            ["a token", f"{found.token_ms:.1f} ms"],
            ["a token of the dense model", f"{found.dense_ms:.1f} ms"],
            ["from memory", f"{found.memory_ms:.1f} ms at {found.memory_gb_per_s:.1f} GB/s"],
            ["of memory's speed", f"{found.of_memory:.0%}"],
        ],
    )
