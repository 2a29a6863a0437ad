"""What is said of a checkpoint's weights before they are loaded: their kinds, what they take."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.quantizers import KINDS, quantize

from tandem.engine.families import Size
from tandem.engine.inspect import CheckpointSummary, inspect_checkpoint
from tandem.engine.random_checkpoint import create_checkpoint

_LAYER = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 192 * 64
_VECTORS = 2 * (2 * 64 + 64 + 2 * 32) + 64
_VOCABULARY = 320 * 64


def summary(directory: Path, kind: str | None) -> CheckpointSummary:
    size = Size(2, 64, 192, 4, 2, 16, 320, 256)
    create_checkpoint(directory / "m", family="qwen2", dtype="bfloat16", size=size)
    if kind is None:
        return inspect_checkpoint(directory / "m")
    return inspect_checkpoint(quantize(directory / "m", KINDS[kind], directory)[0])


def test_plain_weights_take_what_their_numbers_do(tmp_path: Path) -> None:
    found = summary(tmp_path, None)
    assert found.weight_formats == {"bfloat16": found.tensors}
    assert found.memory_bytes == 2 * found.parameters
    assert found.bits_per_weight == pytest.approx(16, rel=0.05)
    assert found.tensor_parallel_bytes == {2: found.parameters}
    assert found.pipeline_bytes == {2: 2 * (_LAYER + _VECTORS // 2 - 32 + _VOCABULARY)}


def test_quantised_weights_take_less(tmp_path: Path) -> None:
    found = summary(tmp_path, "compressed 4 bits, zero points")
    assert found.parameters == 2 * _LAYER + _VECTORS + _VOCABULARY
    label = "compressed-tensors 4 bits, groups of 32"
    assert found.weight_formats == {label: 14, "bfloat16": found.tensors - 14}
    matrices = 2 * _LAYER // 2 + 2 * _LAYER // 32 * 8
    assert found.memory_bytes == matrices + 2 * (_VECTORS + _VOCABULARY)
    assert 4 < found.bits_per_weight < 16
