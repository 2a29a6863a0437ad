"""`python -m benchmarks quality`: how far each dtype and format is from float32."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tandem.cli.options import DEFAULT_MODEL, Json
from tandem.cli.output import note, print_json, print_table


def quality(
    model: Annotated[str, typer.Option("--model", "-m", help="A checkpoint.")] = DEFAULT_MODEL,
    tokens: Annotated[int, typer.Option(min=32, help="Tokens of each of six texts.")] = 224,
    threads: Annotated[int, typer.Option(min=1, help="Cores that each may use.")] = 1,
    json: Json = False,
) -> None:
    """Compares next-token distributions of every dtype and format with float32 transformers.

    Each goes through the same texts. The mean and the largest Kullback-Leibler divergence are in
    nats; top-1 is how often both think the same token the likeliest. A model in few bits is
    compared with what its codes stand for. Peers take part where they are installed
    (benchmarks/README.md).

    \b
    Examples:
      python -m benchmarks quality
      python -m benchmarks quality --model ./SmolLM2-135M-Instruct.Q4_1.gguf --threads 2 --json
    """
    from benchmarks.engines.quality import SUBJECTS, measure_quality
    from tandem.bench import Job
    from tandem.engine import resolve_model
    from tandem.runtime import configure_logging

    configure_logging("error")
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        job = Job(resolve_model(model), Path(folder), threads)
        found = list(measure_quality(job, tokens, SUBJECTS, note))
    if json:
        print_json(found)
        return
    rows = [
        [
            f"{one.name} {one.kind}",
            f"{one.mean:.2e}",
            f"{one.largest:.2e}",
            f"{one.agreement:.2%}",
        ]
        for one in found
    ]
    print_table(["", "mean KL", "largest", "top-1"], rows)
