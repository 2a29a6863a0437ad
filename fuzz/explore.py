"""One target under libFuzzer, in a process: `python -m fuzz.explore TARGET [ARGUMENT...]`.

The arguments are libFuzzer's. The process ends with the run, or at the first fault.
"""

from __future__ import annotations

import random
import sys

import atheris

from fuzz.trees import CODECS, changed

with atheris.instrument_imports(include=["tandem", "fuzz.targets"], enable_loader_override=False):
    from fuzz.targets import target

    _TARGET = target(sys.argv[1])

#: How often bytes are changed, and not what they stand for.
_RAW = 0.3


def _mutate(data: bytes, max_size: int, seed: int) -> bytes:
    draw = random.Random(seed)
    if draw.random() >= _RAW and _TARGET.CODEC is not None:
        start = min(_TARGET.PREFIX, len(data))
        tree = changed(data[start:], CODECS[_TARGET.CODEC], draw, _TARGET.TOKENS)
        if tree is not None:
            return (data[:start] + tree)[:max_size]
    mutated: bytes = atheris.Mutate(data, max_size)
    return mutated


if __name__ == "__main__":
    atheris.Setup(sys.argv[1:], _TARGET.run, custom_mutator=_mutate)
    atheris.Fuzz()
