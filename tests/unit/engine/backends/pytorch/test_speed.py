"""A machine's speed counts the bytes that a model of these options reads, by its best moment."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from tandem.engine import DEMO_MODEL, EngineOptions, Quantization, prepare, resolve_model
from tandem.engine.backends.pytorch.speed import decode_bytes_per_s

READ_BYTES = 64 * 2**20


def clock(*laps: float) -> Callable[[], float]:
    """Between two calls so much passes; the last lap again and again."""
    times = itertools.accumulate(itertools.chain([0.0], laps, itertools.repeat(laps[-1])))
    return lambda: next(times)


@pytest.mark.parametrize(
    ("dtype", "quantization"),
    [("float32", None), ("bfloat16", None), ("float32", Quantization.INT8)],
)
def test_bytes_are_counted_as_weights_are_kept(
    dtype: str, quantization: Quantization | None
) -> None:
    options = EngineOptions(
        directory=resolve_model(DEMO_MODEL), dtype=dtype, quantization=quantization, device="cpu"
    )
    speed = decode_bytes_per_s(prepare(options), clock(2.0))
    assert speed == pytest.approx(READ_BYTES / 2.0)


def test_the_best_moment_counts() -> None:
    options = EngineOptions(directory=resolve_model(DEMO_MODEL), dtype="float32", device="cpu")
    # The clock is read at both ends of a lap, and once before each; the first lap does not count.
    disturbed = clock(0.01, 0.0, 0.05, 0.0, 0.0, 0.0, 0.02, 0.0, 0.0, 0.3)
    assert decode_bytes_per_s(prepare(options), disturbed) == pytest.approx(READ_BYTES / 0.02)
