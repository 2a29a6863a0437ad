"""Every family in 16 bits: as near to float32 as `transformers` is, through a prompt and decoding.

What is compared are errors: two ways to round differ from each other as much as from the truth.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.support.models.divided import BLOCK, Runner
from tests.support.models.shapes import SHAPES

from tandem.engine.backends.pytorch.dtypes import DTYPES
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.families import read_config
from tandem.engine.random_checkpoint import create_checkpoint

#: The first of each family; all of its shapes are compared in float32.
FIRST = {shape.family: name for name, shape in reversed(SHAPES.items())}
TOKENS = [(7 * number) % 280 + 1 for number in range(31)]
TABLE = list(range(1, 1 + BlockManager(64, BLOCK).blocks_for(len(TOKENS))))


@torch.inference_mode()
def theirs(directory: Path, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of weights of a `dtype`, computed in it, and in float32."""
    name = read_config(directory).architecture
    # Some families are computed by another one's class there.
    oracle: Any = getattr(transformers, name, transformers.AutoModelForCausalLM)
    model = oracle.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager", experts_implementation="eager"
    )
    tokens = torch.tensor([TOKENS])
    rounded = model(tokens).logits[0].float()
    return rounded, model.float()(tokens).logits[0]


def typical_error(logits: torch.Tensor, exact: torch.Tensor) -> float:
    """Of a row, whatever happens to the few for which rounding has chosen other experts."""
    return (logits - exact).square().mean(dim=-1).sqrt().median().item()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", sorted(FIRST))
def test_it_loses_no_more_than_transformers(tmp_path: Path, family: str, dtype: str) -> None:
    _, size, overrides = SHAPES[FIRST[family]]
    create_checkpoint(
        tmp_path, family=family, size=size, dtype="float32", overrides=dict(overrides)
    )
    rounded, exact = theirs(tmp_path, DTYPES[dtype])
    runner = Runner(tmp_path, dtype=dtype)
    cuts = [0, 17, 27, 28, 29, 30, 31]
    pieces = [runner.step((TOKENS[first:end], first, TABLE)) for first, end in pairwise(cuts)]
    error = typical_error(torch.cat(pieces), exact)
    assert 0 < error < 1.5 * typical_error(rounded, exact)
