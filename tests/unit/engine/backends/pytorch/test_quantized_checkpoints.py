"""Checkpoints as people download them: a model computes what their numbers say, however divided."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.models.divided import Runner
from tests.support.quantizers import KINDS, quantize

from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint

SIZE = Size(2, 64, 192, 4, 2, 16, 320, 256)
TOKENS = [5, 6, 7, 200, 11]
#: Those that ranks read otherwise than by rows and whole groups.
WAYS = ("alone", "tp2", "pp2")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("quantized") / "original"
    create_checkpoint(directory, family="qwen2", size=SIZE, dtype="float32")
    return directory


@pytest.mark.parametrize("name", KINDS)
def test_logits_are_those_of_the_numbers(original: Path, tmp_path: Path, name: str) -> None:
    few, wide = quantize(original, KINDS[name], tmp_path)
    expected = Runner(wide).step((TOKENS, 0, [1, 2]))
    assert expected.abs().max() > 0.1
    for way in WAYS:
        found = Runner(few, way).step((TOKENS, 0, [1, 2]))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
