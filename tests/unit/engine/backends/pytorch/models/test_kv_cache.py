"""A model whose cache has eight bits a number, alone and divided, beside one that is exact."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.support.models.divided import BLOCK, Runner

from tandem.engine import CacheFormat
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint

SIZE = Size(3, 64, 96, 4, 2, 16, 301, 256)
TOKENS = [(7 * number) % 300 + 1 for number in range(31)]
BLOCKS = list(range(1, 1 + BlockManager(64, BLOCK).blocks_for(len(TOKENS))))


def logits(directory: Path, way: str, kv_cache: CacheFormat | None) -> torch.Tensor:
    """Chunks, then single tokens: what is read was kept by both."""
    runner = Runner(directory, way, kv_cache=kv_cache)
    cuts = [0, 17, 27, 28, 29, 30, 31]
    pieces = [runner.step((TOKENS[first:end], first, BLOCKS)) for first, end in pairwise(cuts)]
    return torch.cat(pieces)


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_eight_bits_change_little_and_ranks_agree(tmp_path: Path, family: str) -> None:
    create_checkpoint(tmp_path / "m", family=family, size=SIZE, dtype="float32")
    exact = logits(tmp_path / "m", "alone", None)
    alone = logits(tmp_path / "m", "alone", CacheFormat.INT8)
    rounding = (alone - exact).abs().max()
    assert 0 < rounding < 0.02 * exact.abs().max()
    for way in ("tp2", "pp2"):
        # A number between two steps may go to the one or to the other.
        divided = logits(tmp_path / "m", way, CacheFormat.INT8)
        assert (divided - alone).abs().max() <= rounding


def test_a_row_does_not_depend_on_the_rows_beside_it(tmp_path: Path) -> None:
    create_checkpoint(tmp_path / "m", family="llama", size=SIZE, dtype="float32")
    alone = logits(tmp_path / "m", "alone", CacheFormat.INT8)
    runner = Runner(tmp_path / "m", kv_cache=CacheFormat.INT8)
    others = list(range(20, 20 + len(BLOCKS)))
    runner.step((TOKENS[::-1][:-1], 0, others), (TOKENS[:-1], 0, BLOCKS))
    found = runner.step((TOKENS[::-1][-1:], 30, others), (TOKENS[-1:], 30, BLOCKS))
    torch.testing.assert_close(found[1], alone[-1], rtol=1e-4, atol=1e-3)
