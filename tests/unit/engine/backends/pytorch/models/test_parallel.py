"""Attention and MLP beside each other: what ranks say to each other for it."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.support.models.divided import Rank

from tandem.engine import EngineOptions, Solo, create_checkpoint, prepare, whole
from tandem.engine.core.step import SampleSpec, SequenceStep


class _Counting(Solo[torch.Tensor]):
    sums = 0

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        self.sums += 1
        return tensor


def test_ranks_add_up_once_a_layer(tmp_path: Path) -> None:
    found = {}
    for family in ("cohere", "llama"):
        create_checkpoint(tmp_path / family, family=family, dtype="float32")
        setup = prepare(EngineOptions(directory=tmp_path / family, device="cpu"))
        group = _Counting()
        rank = Rank(setup, whole(setup.config), group)
        rank.forward([SequenceStep(0, [1, 2, 3], 0, [0], SampleSpec(0))], None)
        found[family] = group.sums / setup.config.num_layers
    assert found == {"cohere": 1, "llama": 2}
