"""A machine's speed is measured on weights as a model of these options keeps them."""

from __future__ import annotations

import math

import pytest

from tandem.engine import DEMO_MODEL, EngineOptions, decode_bytes_per_s, prepare, resolve_model


@pytest.mark.parametrize(
    ("dtype", "quantize"), [("float32", None), ("bfloat16", None), ("float32", "int8")]
)
def test_a_speed_is_found_for_every_kind_of_weights(dtype: str, quantize: str | None) -> None:
    directory = resolve_model(DEMO_MODEL)
    setup = prepare(EngineOptions(directory=directory, dtype=dtype, quantize=quantize))
    speed = decode_bytes_per_s(setup)
    assert math.isfinite(speed)
    assert speed > 0
