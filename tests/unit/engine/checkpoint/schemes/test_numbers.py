"""Each scheme's matrices are, to the bit, the numbers that its publication says they are."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.support.quantizers import KINDS, Kind, Stored

from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.sharding import Span

NAME = "model.layers.0.mlp.down_proj"


def write(directory: Path, kind: Kind, stored: Stored) -> None:
    (directory / "config.json").write_text(json.dumps(kind.config))
    tensors = {NAME + suffix: tensor for suffix, tensor in stored.tensors.items()}
    save_file(tensors | {"model.norm.weight": torch.ones(3)}, directory / "model.safetensors")


@st.composite
def sections(draw: st.DrawFn, kind: Kind) -> tuple[int, int, Span, Span]:
    """A matrix's rows and columns, and a run of either."""
    rows, columns = (unit * draw(st.integers(1, 4)) for unit in kind.unit)

    def run(extent: int) -> Span:
        start = draw(st.integers(0, extent - 1))
        return Span(start, draw(st.integers(start + 1, extent)))

    return rows, columns, run(rows), run(columns)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=12, derandomize=True, deadline=None)
@given(data=st.data(), seed=st.integers(0, 999))
def test_numbers_are_those_of_the_publication(name: str, data: st.DataObject, seed: int) -> None:
    kind = KINDS[name]
    rows, columns, height, width = data.draw(sections(kind))
    stored = kind.make(np.random.default_rng(seed), rows, columns)
    expected = {f"{NAME}.weight": (rows, columns), "model.norm.weight": (3,)}
    with TemporaryDirectory() as folder:
        write(Path(folder), kind, stored)
        with open_weights(Path(folder), "numpy", expected) as weights:
            whole = weights.quantized(f"{NAME}.weight")
            part = weights.quantized(f"{NAME}.weight", height, width)
            read = weights.read(f"{NAME}.weight", height, width)
            plain, kept = weights.read("model.norm.weight"), weights.stored(f"{NAME}.weight").nbytes
            assert weights.quantized("model.norm.weight") is None
    assert whole is not None
    assert part is not None
    assert whole.nbytes <= kept
    wanted = stored.numbers[height.start : height.stop, width.start : width.stop]
    assert_same(whole.dequantize(), stored.numbers)
    assert_same(part.dequantize(), wanted)
    assert_same(read, wanted)
    assert plain.tolist() == [1.0, 1.0, 1.0]


def assert_same(found: Any, expected: Any) -> None:  # noqa: ANN401 - arrays
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.array_equal(found, expected, equal_nan=True)
