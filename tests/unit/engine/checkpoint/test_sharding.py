"""Which part of a model a rank runs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine import ModelConfig, Span, pipeline_stage, tensor_parallel, whole
from tandem.engine.checkpoint.layout import Axis, Division, Place, TensorSpec
from tandem.engine.checkpoint.sharding import split
from tandem.errors import ConfigurationError


def config(kv_heads: int = 4, columns: int = 10, vocabulary: int = 33) -> ModelConfig:
    return ModelConfig(
        architecture="LlamaForCausalLM",
        vocab_size=vocabulary,
        hidden_size=48,
        intermediate_size=columns,
        num_layers=6,
        num_heads=8,
        num_kv_heads=kv_heads,
        head_dim=8,
        context_length=64,
        tie_word_embeddings=True,
        sliding_windows=(None,) * 6,
        dtype="float32",
        eos_token_ids=frozenset(),
    )


@given(extent=st.integers(1, 1000), size=st.integers(1, 16))
def test_shares_cover_all_and_differ_by_one_at_most(extent: int, size: int) -> None:
    shares = [split(extent, rank, size) for rank in range(size)]
    assert [share.start for share in shares] == [0, *(share.stop for share in shares[:-1])]
    assert shares[-1].stop == extent
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_every_tensor_parallel_rank_has_all_layers_and_both_ends() -> None:
    for rank in range(4):
        shard = tensor_parallel(config(), rank, 4)
        assert (shard.layers, shard.embeds, shard.has_head) == (Span(0, 6), True, True)
        assert shard.kv_heads == Span(rank, rank + 1)


@pytest.mark.parametrize(
    ("kv_heads", "columns", "size", "words"),
    [(4, 10, 3, "4 KV heads do not divide among 3"), (8, 7, 8, "too small to divide among 8")],
)
def test_what_does_not_divide_is_refused(
    kv_heads: int, columns: int, size: int, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        tensor_parallel(config(kv_heads, columns), 0, size)


def test_the_ends_of_a_pipeline_have_the_ends_of_the_model() -> None:
    ends = [
        (stage.embeds, stage.has_head)
        for stage in (pipeline_stage(config(), Span(*cut)) for cut in ((0, 2), (2, 5), (5, 6)))
    ]
    assert ends == [(True, False), (False, False), (False, True)]


@pytest.mark.parametrize("cut", [(0, 0), (3, 2), (-1, 2), (4, 7)])
def test_layers_outside_the_model_are_refused(cut: tuple[int, int]) -> None:
    with pytest.raises(ConfigurationError, match="not a part of 6 layers"):
        pipeline_stage(config(), Span(*cut))


def test_a_part_of_a_tensor_is_counted_in_its_own_numbers() -> None:
    shard = tensor_parallel(config(), 1, 2)
    spec = TensorSpec(
        "q", (64, 48), rows=Division(Axis.KV_HEADS, each=16), columns=Division(Axis.COLUMNS)
    )
    assert shard.part(spec) == (Span(32, 64), Span(5, 10))
    assert shard.part(TensorSpec("norm", (48,))) == (None, None)
    embedding = TensorSpec("e", (33, 48), rows=Division(Axis.VOCABULARY))
    assert shard.part(embedding) == (Span(16, 33), None)
    assert whole(config()).part(embedding) == (Span(0, 33), None)


def test_a_rank_finds_its_rows_in_a_larger_tensor() -> None:
    """Keys stored below queries of 64 rows; an expert's matrix is an entry of its own."""
    by_key = Division(Axis.KV_HEADS, 8)
    fused = TensorSpec("qkv", (32, 48), rows=by_key, place=Place((128, 48), first_row=64))
    shared = TensorSpec("bias", (8,), place=Place((24,), first_row=16))
    expert = TensorSpec("experts", (32, 48), rows=by_key, place=Place((5, 32, 48), entry=3))
    shard = tensor_parallel(config(), 1, 2)
    assert shard.part(fused) == (Span(80, 96), None)
    assert shard.part(shared) == (Span(16, 24), None)
    assert shard.part(expert) == (Span(16, 32), None)
    assert whole(config()).part(fused) == (Span(64, 96), None)


def test_rows_of_two_tensors_may_alternate() -> None:
    up = Place((3, 64, 48), first_row=1, every=2, entry=1)
    assert whole(config()).part(TensorSpec("e", (32, 48), place=up)) == (Span(1, 64), None)
    by_key = Division(Axis.KV_HEADS, 8)
    shard = tensor_parallel(config(), 1, 2)
    assert shard.part(TensorSpec("e", (32, 48), rows=by_key, place=up)) == (Span(33, 64), None)
    turned = Place((3, 48, 64), first_row=1, every=2, entry=1, transposed=True)
    assert shard.part(TensorSpec("e", (32, 48), place=turned)) == (Span(1, 64), None)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_experts_come_whole_and_the_columns_beside_them_by_parts(ranks: int) -> None:
    model = msgspec.structs.replace(config(12), num_experts=7, shared_columns=20)
    shards = [tensor_parallel(model, rank, ranks) for rank in range(ranks)]
    held = [expert for shard in shards for expert in range(shard.experts.start, shard.experts.stop)]
    assert held == list(range(7))
    down = TensorSpec("down", (48, 20), columns=Division(Axis.SHARED_COLUMNS))
    spans = [span for shard in shards if (span := shard.part(down)[1])]
    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
    assert spans[-1].stop == 20
