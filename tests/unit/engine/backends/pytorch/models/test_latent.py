"""Latents in a cache: read where they are or gathered, by all heads or by some."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.support.models.divided import BLOCK, BLOCKS, Runner
from tests.support.models.shapes import SHAPES

from tandem.engine import CacheFormat
from tandem.engine.backends.pytorch.layers import batch, latent
from tandem.engine.random_checkpoint import create_checkpoint

TOKENS = [(7 * number) % 300 + 1 for number in range(31)]
TABLE = list(range(1, 10))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "m"
    family, size, overrides = SHAPES["deepseek-v2"]
    create_checkpoint(folder, family=family, size=size, dtype="float32", overrides=dict(overrides))
    return folder


def logits(runner: Runner) -> torch.Tensor:
    """A prompt in chunks, then single tokens beside another sequence."""
    cuts = [0, 17, 28]
    pieces = [runner.step((TOKENS[first:end], first, TABLE)) for first, end in pairwise(cuts)]
    other = TOKENS[::-1]
    runner.step((other[:28], 0, list(range(20, 29))))
    for position in range(28, 31):
        parts = (TOKENS[position:], position, TABLE), (other[position:], position, range(20, 29))
        pieces.append(
            runner.step(*((tokens[:1], start, list(table)) for tokens, start, table in parts))
        )
    return torch.cat(pieces)


@pytest.mark.parametrize("way", ["alone", "tp2", "pp2"])
def test_gathered_and_read_in_place_it_is_the_same(
    model: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place = logits(Runner(model))
    monkeypatch.setattr(batch, "_PAGED_THREADS", 0)
    torch.testing.assert_close(logits(Runner(model, way)), in_place, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["alone", "tp2"])
def test_every_rank_keeps_one_latent_a_token(model: Path, way: str) -> None:
    for rank in Runner(model, way).ranks:
        for layer in rank.cache.layers:
            assert layer.values is layer.keys
            assert layer.keys.numbers.shape == (BLOCKS, BLOCK, 1, 24 + 6)


def test_bfloat16_changes_little(model: Path) -> None:
    exact = logits(Runner(model))
    narrow = logits(Runner(model, kv_cache=CacheFormat.BFLOAT16))
    assert 0 < (narrow - exact).abs().max() < 0.02 * exact.abs().max()


def test_long_chunks_are_expanded_where_there_is_room(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, expand = [], latent.HeadMaps.expand

    def counted(heads: latent.HeadMaps, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(latents.shape[2])
        return expand(heads, latents)

    monkeypatch.setattr(latent.HeadMaps, "expand", counted)
    # A map makes 24 numbers of 24, and products with latents are of 24 more: 24 tokens are even.
    runner = Runner(model)
    runner.step((TOKENS[:23], 0, TABLE))
    assert calls == []
    expanded = runner.step((TOKENS[:24], 0, TABLE))
    assert calls == [24] * 3
    monkeypatch.setattr(latent, "_MOST_EXPANDED", 24 * 4 * 2 * 18 - 1)
    absorbed = runner.step((TOKENS[:24], 0, TABLE))
    assert calls == [24] * 3
    torch.testing.assert_close(expanded, absorbed, rtol=1e-4, atol=1e-5)
