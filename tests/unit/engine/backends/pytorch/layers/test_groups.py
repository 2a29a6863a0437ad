"""Attention over paged blocks: read where they are, or gathered."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.tensors import DTYPES, assert_close, random_tensor

from tandem.engine.backends.pytorch.layers import batch, groups
from tandem.engine.backends.pytorch.layers.batch import BatchBuilder
from tandem.engine.backends.pytorch.layers.groups import PagedGroup, Scoring
from tandem.engine.backends.pytorch.layers.kv_cache import KVCache
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.dtypes import CacheFormat
from tandem.engine.checkpoint.sharding import whole
from tandem.engine.core.step import SequenceStep

BLOCK = 4


def config(window: int | None) -> ModelConfig:
    return ModelConfig(
        architecture="LlamaForCausalLM",
        vocab_size=32,
        hidden_size=48,
        intermediate_size=64,
        num_layers=1,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        context_length=64,
        tie_word_embeddings=True,
        sliding_windows=(window,),
        dtype="float32",
        eos_token_ids=frozenset(),
    )


def fill(cache: KVCache, seed: int) -> None:
    """Random numbers, in eight bits where those are kept: such that bfloat16 has each of them."""
    for number, half in enumerate((cache.layers[0].keys, cache.layers[0].values)):
        shape, dtype = half.numbers.shape, half.numbers.dtype
        if half.scales is None:
            half.numbers.copy_(random_tensor(*shape, seed=seed + number, dtype=dtype))
        else:
            half.numbers.copy_((40 * random_tensor(*shape, seed=seed + number)).clamp(-127, 127))
            powers = random_tensor(*half.scales.shape, seed=seed + 9).round() - 5
            half.scales.copy_(torch.exp2(powers))


def attended(
    cache: KVCache, queries: torch.Tensor, steps: list[SequenceStep], scoring: Scoring
) -> torch.Tensor:
    shape, device = config(scoring.window), torch.device("cpu")
    builder = BatchBuilder(shape, whole(shape), BLOCK, queries.dtype, device)
    (group,) = builder.build(steps).groups
    assert isinstance(group, PagedGroup) == (batch._PAGED_THREADS > 0)
    return group.attend(queries, cache.layers[0], scoring)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "scoring",
    [
        Scoring(),
        Scoring(window=1),
        Scoring(window=3),
        Scoring(window=6, scale=0.7),
        Scoring(softcap=0.8),
        Scoring(window=5, scale=1.7, softcap=2.0),
        Scoring(sinks=random_tensor(6, seed=7)),
        Scoring(window=5, softcap=2.0, sinks=20 * random_tensor(6, seed=8)),
    ],
)
@given(
    lengths=st.lists(st.integers(1, 16), min_size=1, max_size=5),
    seed=st.integers(0, 99),
    kept=st.sampled_from([None, *CacheFormat]),
)
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_blocks_are_attended_to_where_they_are_as_when_gathered(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    scoring: Scoring,
    lengths: list[int],
    seed: int,
    kept: CacheFormat | None,
) -> None:
    shape, device = config(scoring.window), torch.device("cpu")
    blocks = 4 * len(lengths)
    cache = KVCache(
        shape, whole(shape), blocks=blocks, block_size=BLOCK, dtype=dtype, device=device, kept=kept
    )
    fill(cache, seed)
    order = torch.randperm(blocks, generator=torch.Generator().manual_seed(seed)).tolist()
    steps = [
        SequenceStep(index, [1], length - 1, order[4 * index : 4 * index + 4], None)
        for index, length in enumerate(lengths)
    ]
    queries = random_tensor(len(lengths), 6, 8, seed=seed + 2, dtype=dtype)
    monkeypatch.setattr(batch, "_PAGED_THREADS", 0)
    gathered = attended(cache, queries, steps, scoring)
    monkeypatch.setattr(batch, "_PAGED_THREADS", 1024)
    assert_close(attended(cache, queries, steps, scoring), gathered)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("half", ["keys", "values"])
def test_numbers_that_are_not_finite_spoil_their_own_row_alone(half: str, bad: float) -> None:
    shape, device = config(None), torch.device("cpu")
    cache = KVCache(
        shape, whole(shape), blocks=2, block_size=BLOCK, dtype=torch.float32, device=device
    )
    getattr(cache.layers[0], half).numbers[0, 1] = bad
    steps = [SequenceStep(index, [1], 2, [index], None) for index in range(2)]
    queries = random_tensor(2, 6, 8)
    found = attended(cache, queries, steps, Scoring())
    if half == "values" or not math.isinf(bad):
        assert not found[0].isfinite().any()
    assert found[1].isfinite().all()


@pytest.mark.parametrize("threads", [0, 1024])
def test_scores_are_scaled_and_capped_before_their_softmax(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(batch, "_PAGED_THREADS", threads)
    shape, device = config(None), torch.device("cpu")
    cache = KVCache(
        shape, whole(shape), blocks=2, block_size=BLOCK, dtype=torch.float32, device=device
    )
    fill(cache, 0)
    queries = random_tensor(1, 6, 8, seed=2)
    found = attended(
        cache, queries, [SequenceStep(0, [1], 6, [1, 0], None)], Scoring(None, 0.9, 1.5)
    )
    stored = [
        torch.cat((half.numbers[1], half.numbers[0]))[:7]
        for half in (cache.layers[0].keys, cache.layers[0].values)
    ]
    keys, values = (half.repeat_interleave(3, dim=1) for half in stored)
    scores = torch.einsum("hd,khd->hk", queries[0], keys) * 0.9
    weights = torch.softmax(1.5 * torch.tanh(scores / 1.5), dim=-1)
    assert_close(found[0], torch.einsum("hk,khd->hd", weights, values).flatten())


@pytest.mark.parametrize("threads", [0, 1024])
def test_a_sink_takes_its_share_of_the_softmax_and_gives_nothing(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(batch, "_PAGED_THREADS", threads)
    shape, device = config(None), torch.device("cpu")
    cache = KVCache(
        shape, whole(shape), blocks=2, block_size=BLOCK, dtype=torch.float32, device=device
    )
    layer, sinks = cache.layers[0], random_tensor(6, seed=5)
    fill(cache, 0)
    queries, step = random_tensor(1, 6, 8, seed=2), SequenceStep(0, [1], 6, [0, 1], None)
    found = attended(cache, queries, [step], Scoring(sinks=sinks))
    keys, values = (
        half.numbers.flatten(0, 1)[:7].repeat_interleave(3, dim=1)
        for half in (layer.keys, layer.values)
    )
    powers = torch.exp(torch.einsum("hd,khd->hk", queries[0], keys) / math.sqrt(8))
    weights = powers / (powers.sum(dim=1) + torch.exp(sinks))[:, None]
    assert_close(found[0], torch.einsum("hk,khd->hd", weights, values).flatten())


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    most=st.integers(1, 400),
    length=st.integers(2, 13),
    cap=st.sampled_from([None, 0.8]),
    sinks=st.booleans(),
)
def test_scores_are_computed_in_portions_that_fit(
    monkeypatch: pytest.MonkeyPatch, most: int, length: int, cap: float | None, sinks: bool
) -> None:
    shape, device = config(None), torch.device("cpu")
    cache = KVCache(
        shape, whole(shape), blocks=5, block_size=BLOCK, dtype=torch.float32, device=device
    )
    fill(cache, 0)
    scoring = Scoring(softcap=cap or 1e9, sinks=random_tensor(6, seed=5) if sinks else None)
    builder = BatchBuilder(shape, whole(shape), BLOCK, torch.float32, device)
    (group,) = builder.build([SequenceStep(0, [1] * length, 2, [4, 0, 2, 1], None)]).groups
    queries = random_tensor(length, 6, 8, seed=3)
    expected = group.attend(queries, cache.layers[0], scoring)
    compute, sizes = groups._scores, []

    def counted(queries: torch.Tensor, keys: torch.Tensor, own: Scoring) -> torch.Tensor:
        scores = compute(queries, keys, own)
        sizes.append(scores.numel())
        return scores

    with monkeypatch.context() as patched:
        patched.setattr(groups, "_MOST_SCORES", most)
        patched.setattr(groups, "_scores", counted)
        assert_close(group.attend(queries, cache.layers[0], scoring), expected)
    a_row = BLOCK * -(-(2 + length) // BLOCK)
    assert max(sizes) <= max(most, a_row)
    assert sum(sizes) == 6 * length * a_row
