"""Logits against `transformers`, on random checkpoints of every family and odd shapes.

Each is run by one process, by ranks that share its layers, and as a pipeline.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.support.models.divided import BLOCK, BLOCKS, Runner
from tests.support.models.shapes import SHAPES

from tandem.engine.core.block_manager import BlockManager
from tandem.engine.families import FAMILIES, read_config
from tandem.engine.random_checkpoint import create_checkpoint

TOLERANCE = 1e-4


class Model:
    """A checkpoint, and what `transformers` computes of it."""

    def __init__(self, directory: Path, shape: str) -> None:
        self.directory = directory / shape
        family, size, overrides = SHAPES[shape]
        create_checkpoint(
            self.directory,
            family=family,
            size=size,
            seed=7,
            dtype="float32",
            overrides=dict(overrides),
        )
        architecture = read_config(self.directory).architecture
        # Some families are computed by another one's class there.
        oracle: Any = getattr(transformers, architecture, transformers.AutoModelForCausalLM)
        self._oracle: Any = oracle.from_pretrained(
            self.directory, dtype=torch.float32, attn_implementation="eager"
        )

    @torch.inference_mode()
    def logits(self, tokens: list[int]) -> torch.Tensor:
        logits: torch.Tensor = self._oracle(torch.tensor([tokens])).logits[0]
        return logits


@pytest.fixture(scope="module", params=sorted(SHAPES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(tmp_path_factory.mktemp("models"), request.param)


WAYS = [(name, way) for name, shape in sorted(SHAPES.items()) for way in shape.ways]


def prompt(length: int, vocabulary: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, vocabulary, (length,), generator=generator).tolist()


def blocks(first: int, tokens: int) -> list[int]:
    return list(range(first, first + BlockManager(BLOCKS, BLOCK).blocks_for(tokens)))


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.abs().max() > 0.1, "an oracle of zeros proves nothing"
    assert (ours - theirs).abs().max().item() < TOLERANCE


def test_every_family_is_compared_by_every_way() -> None:
    tried: dict[str, set[str]] = {family.name: set() for family in FAMILIES.values()}
    for shape in SHAPES.values():
        tried[shape.family] |= {way[:2] for way in shape.ways}
    assert {family: ways for family, ways in tried.items() if ways != {"al", "tp", "pp"}} == {}


def test_whole_prefill_equals_transformers(model: Model) -> None:
    runner = Runner(model.directory)
    tokens = prompt(29, runner.vocabulary, 1)
    assert_close(runner.step((tokens, 0, blocks(1, 29))), model.logits(tokens))


@pytest.mark.parametrize(("model", "way"), WAYS, indirect=["model"], scope="module")
def test_chunks_then_decode_equal_transformers(model: Model, way: str) -> None:
    runner = Runner(model.directory, way)
    tokens = prompt(31, runner.vocabulary, 2)
    table = blocks(5, 31)[::-1]  # blocks need not be in order
    cuts = [0, 3, 4, 17, 27, 28, 29, 30, 31]
    pieces = [runner.step((tokens[start:stop], start, table)) for start, stop in pairwise(cuts)]
    assert_close(torch.cat(pieces), model.logits(tokens))


def test_a_mixed_batch_equals_each_alone(model: Model) -> None:
    runner = Runner(model.directory)
    first, second, third = (prompt(n, runner.vocabulary, n) for n in (12, 21, 9))
    tables = blocks(1, 12), blocks(10, 21), blocks(30, 9)
    runner.step((first[:11], 0, tables[0]), (second[:20], 0, tables[1]))
    # Two decode while the third prefills.
    logits = runner.step(
        (first[11:], 11, tables[0]), (third, 0, tables[2]), (second[20:], 20, tables[1])
    )
    assert_close(logits[:1], model.logits(first)[-1:])
    assert_close(logits[1:10], model.logits(third))
    assert_close(logits[10:], model.logits(second)[-1:])


def test_garbage_in_unused_cache_slots_is_never_seen(model: Model) -> None:
    runner = Runner(model.directory)
    (rank,) = runner.ranks
    for cache in (half for layer in rank.cache.layers for half in (layer.keys, layer.values)):
        cache.numbers.fill_(1e4)
    tokens = prompt(10, runner.vocabulary, 3)
    assert_close(runner.step((tokens, 0, blocks(2, 10))), model.logits(tokens))
