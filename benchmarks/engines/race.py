"""Tandem's engine beside llama.cpp and transformers: same weights, cores and work, in one run.

`tandem.bench` measures; here is only who takes part.
"""

from __future__ import annotations

from benchmarks.engines import llama_cpp
from benchmarks.engines.transformers import ContinuousTransformers, Transformers
from tandem.bench import BF16, INT8, Contender, EngineFigure, Ratios, ratio

#: Tandem's bfloat16 first: the others are compared with it.
SHAPES = (
    BF16,
    Contender("llama.cpp", "bf16", "llama_cpp", llama_cpp.bf16),
    Contender("transformers", "bf16", "transformers", Transformers),
    INT8,
    Contender("llama.cpp", "q8_0", "llama_cpp", llama_cpp.q8_0),
)
STREAMS = (
    BF16,
    Contender("transformers", "bf16 generate", "transformers", Transformers),
    Contender("transformers", "bf16 continuous", "transformers", ContinuousTransformers),
)


def lead(figures: list[EngineFigure]) -> Ratios:
    """Tandem's bfloat16 by each of the others."""
    ours, *others = figures
    return {f"{ours.title} / {other.title}": ratio(ours, other) for other in others}
