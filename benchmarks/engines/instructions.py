"""Plays a processor with fewer instructions, so that one machine shows what another would give.

Everything that a contender computes with is told by its own variable, before it is loaded.
llama.cpp knows its instructions when it is built: benchmarks/README.md says how.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from enum import StrEnum


class Instructions(StrEnum):
    """What contenders may use: all that there is, or what most x86 processors have."""

    NATIVE = "native"
    AVX2 = "avx2"


_VARIABLES = {
    Instructions.NATIVE: {},
    Instructions.AVX2: {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+sse4.2,+ssse3,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
}


def restrict(instructions: Instructions, environment: MutableMapping[str, str]) -> None:
    """For processes that are started with this environment from now on."""
    environment.update(_VARIABLES[instructions])
