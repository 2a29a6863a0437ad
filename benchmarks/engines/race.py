"""Tandem's engine beside llama.cpp and transformers: same weights, cores and work, in one run.

`tandem.bench` measures; here is only who takes part.
"""

from __future__ import annotations

from benchmarks.engines import llama_cpp
from benchmarks.engines.transformers import ContinuousTransformers, Transformers
from tandem.bench import BF16, INT4, INT8, Contender, EngineFigure, Ratios, ratio

#: Others are compared with the one of Tandem's before them, which has as many bits.
SHAPES = (
    BF16,
    Contender("llama.cpp", "bf16", "llama_cpp", llama_cpp.bf16),
    Contender("transformers", "bf16", "transformers", Transformers),
    INT8,
    Contender("llama.cpp", "q8_0", "llama_cpp", llama_cpp.q8_0),
    INT4,
    Contender("llama.cpp", "q4_k_m", "llama_cpp", llama_cpp.q4_k_m),
)
STREAMS = (
    BF16,
    Contender("transformers", "bf16 generate", "transformers", Transformers),
    Contender("transformers", "bf16 continuous", "transformers", ContinuousTransformers),
)


def lead(figures: list[EngineFigure]) -> Ratios:
    """Each of the others by the last of Tandem's before it."""
    ratios, ours = {}, figures[0]
    for figure in figures:
        if figure.name == ours.name:
            ours = figure
        else:
            ratios[f"{ours.title} / {figure.title}"] = ratio(ours, figure)
    return ratios
