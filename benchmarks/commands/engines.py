"""`python -m benchmarks engines`: Tandem's engine beside its peers."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from benchmarks.engines.instructions import Instructions, restrict
from tandem.cli.bench_options import EngineBenchOptions, Part, measure
from tandem.cli.options import Json

Isa = Annotated[Instructions, typer.Option(help="The instructions that contenders may use.")]


def engines(
    options: EngineBenchOptions, isa: Isa = Instructions.NATIVE, json: Json = False
) -> None:
    """Compares the engine with llama.cpp and transformers, on the same weights.

    shapes: prefill, and decoding of 1 to 16 sequences of one length. streams: answers of different
    lengths, beside transformers' generate and continuous batching. Peers take part where they are
    installed (benchmarks/README.md); llama.cpp with Llama checkpoints only.

    \b
    Examples:
      python -m benchmarks engines
      python -m benchmarks engines --only shapes --size 300m --rounds 5 --json
      python -m benchmarks engines --isa avx2 --only shapes --size 300m --prompt 64 --tokens 8
      python -m benchmarks engines --model ./my-llama --threads 8
    """
    restrict(isa, os.environ)
    from benchmarks.engines import race

    contenders = {Part.SHAPES: race.SHAPES, Part.STREAMS: race.STREAMS}
    measure(options, contenders, race.lead, json=json)
