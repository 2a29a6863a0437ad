"""bfloat16: summing on several ranks rounds differently, but not worse than one process does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.ranks import close_all, mesh, together

from tandem.cluster.collectives import SealedCommunicator
from tandem.engine import (
    Communicator,
    EngineOptions,
    Shard,
    Solo,
    StepPlan,
    prepare,
    tensor_parallel,
    whole,
)
from tandem.engine.backends.pytorch.tensors import TorchTensors
from tandem.engine.core.step import SampleSpec, SequenceStep
from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint

SHAPE = Size(6, 64, 176, 8, 4, 16, 389, 1024)
PLAN = StepPlan(
    1,
    [
        SequenceStep(s, list(range(3 + s, 20 + s)), 0, [2 * s, 2 * s + 1], SampleSpec(position=17))
        for s in range(4)
    ],
)


def _logits(
    checkpoint: Path, dtype: str, shard: Shard | None, group: Communicator[torch.Tensor]
) -> torch.Tensor | None:
    setup = prepare(EngineOptions(directory=checkpoint, dtype=dtype, device="cpu", threads=1))
    stage = setup.backend.load_stage(setup, shard or whole(setup.config), group, 8)
    run = stage.begin(PLAN)
    return run.logits(run.forward())


@pytest.mark.parametrize("size", [2, 4])
def test_the_error_of_a_sharded_model_is_that_of_a_whole_one(tmp_path: Path, size: int) -> None:
    checkpoint = tmp_path / "model"
    create_checkpoint(checkpoint, family="llama", size=SHAPE, seed=3, dtype="float32")
    config = prepare(
        EngineOptions(directory=checkpoint, dtype="float32", device="cpu", threads=1)
    ).config
    exact = _logits(checkpoint, "float32", None, Solo())
    alone = _logits(checkpoint, "bfloat16", None, Solo())
    channels = mesh(tmp_path / "nodes", size)
    sharded: list[torch.Tensor] = []

    def run(rank: int) -> None:
        group = SealedCommunicator(rank, channels[rank], TorchTensors())
        logits = _logits(checkpoint, "bfloat16", tensor_parallel(config, rank, size), group)
        if logits is not None:
            sharded.append(logits)

    together(run, size)
    close_all(channels)
    assert exact is not None
    assert alone is not None
    error_alone = (alone - exact).abs().max().item()
    error_sharded = (sharded[0] - exact).abs().max().item()
    assert error_sharded <= 2 * error_alone
    assert error_sharded <= 0.02 * exact.abs().max().item()
