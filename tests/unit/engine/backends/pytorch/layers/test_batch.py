"""A plan's sequences as tensors: rows, slots, groups, masks."""

from __future__ import annotations

import pytest
import torch

from tandem.engine import ModelConfig, Span, pipeline_stage, whole
from tandem.engine.backends.pytorch.layers import batch
from tandem.engine.backends.pytorch.layers.batch import BatchBuilder
from tandem.engine.backends.pytorch.layers.groups import PaddedGroup, PagedGroup
from tandem.engine.core.step import SampleSpec, SequenceStep

BLOCK = 4
NO = float("-inf")
CONFIG = ModelConfig(
    architecture="LlamaForCausalLM",
    vocab_size=32,
    hidden_size=16,
    intermediate_size=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    context_length=64,
    tie_word_embeddings=True,
    sliding_windows=(None, 2),
    dtype="float32",
    eos_token_ids=frozenset(),
)
#: Two that decode, at positions 5 and 2, and one that prefills two tokens from position 3.
DECODING = [SequenceStep(1, [11], 5, [2, 0], SampleSpec(6)), SequenceStep(2, [12], 2, [1], None)]
PREFILLING = SequenceStep(3, [13, 14], 3, [4, 3], SampleSpec(5))


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> BatchBuilder:
    """Of a machine with many cores: all blocks are gathered."""
    monkeypatch.setattr(batch, "_PAGED_THREADS", 0)
    return BatchBuilder(CONFIG, whole(CONFIG), BLOCK, torch.float32, torch.device("cpu"))


def test_those_that_decode_come_first_and_keep_their_order(builder: BatchBuilder) -> None:
    ordered = builder.order([PREFILLING, *DECODING])
    assert [step.sequence_id for step in ordered] == [1, 2, 3]


def test_rows_are_tokens_with_their_positions_and_slots(builder: BatchBuilder) -> None:
    built = builder.build([*DECODING, PREFILLING])
    assert built.tokens.tolist() == [11, 12, 13, 14]
    assert built.positions.tolist() == [5, 2, 3, 4]
    assert built.slots.tolist() == [0 * 4 + 1, 1 * 4 + 2, 4 * 4 + 3, 3 * 4 + 0]
    assert built.sampled_rows.tolist() == [0, 3]
    assert [group.rows for group in built.groups] == [slice(0, 2), slice(2, 4)]


def test_gathered_tables_are_padded_and_the_padding_is_masked(builder: BatchBuilder) -> None:
    decoding, prefilling = builder.build([*DECODING, PREFILLING]).groups
    assert isinstance(decoding, PaddedGroup)
    assert decoding.gathered[None].tables.tolist() == [2, 0, 1, 0]
    full = decoding.gathered[None].mask
    assert full.shape == (2, 1, 2, 8)  # of both query heads of a KV head
    assert full[:, 0, 0].tolist() == [[0.0] * 6 + [NO] * 2, [0.0] * 3 + [NO] * 5]
    assert torch.equal(full[:, 0, 0], full[:, 0, 1])
    assert isinstance(prefilling, PaddedGroup)
    assert prefilling.gathered[2].mask[0, 0, :2].tolist() == [
        [NO] * 2 + [0.0] * 2 + [NO] * 4,
        [NO] * 3 + [0.0] * 2 + [NO] * 3,
    ]


def test_what_is_before_a_window_is_not_gathered(builder: BatchBuilder) -> None:
    far = SequenceStep(1, [11], 13, [2, 5, 7, 6], SampleSpec(14))
    farther = SequenceStep(2, [12], 16, [8, 4, 3, 1, 9], SampleSpec(17))
    for members, tables in (
        ([far, farther], [6, 0, 1, 9]),
        ([farther], [1, 9]),
        ([SequenceStep(3, [13, 14], 17, [8, 4, 3, 1, 9], SampleSpec(18))], [9]),
    ):
        (group,) = builder.build(members).groups
        assert isinstance(group, PaddedGroup)
        assert group.gathered[2].tables.tolist() == tables
        assert len(group.gathered[None].tables) == 5 * len(members)
    (group,) = builder.build([far, farther]).groups
    assert isinstance(group, PaddedGroup)
    assert group.gathered[2].mask[:, 0, 0].tolist() == [
        [0.0, 0.0, *[NO] * 6],
        [*[NO] * 3, 0.0, 0.0, *[NO] * 3],
    ]


def test_blocks_that_are_read_in_place_come_with_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_PAGED_THREADS", 1024)
    builder = BatchBuilder(CONFIG, whole(CONFIG), BLOCK, torch.float32, torch.device("cpu"))
    decoding, prefilling = builder.build([*DECODING, PREFILLING]).groups
    assert isinstance(decoding, PagedGroup)
    assert decoding.tables.tolist() == [[2, 0], [1, 0]]
    assert decoding.spans[None].tolist() == [[0, 6], [0, 3]]
    assert decoding.spans[2].tolist() == [[4, 6], [1, 3]]
    assert isinstance(prefilling, PaddedGroup)


def test_a_stage_masks_for_the_windows_of_its_own_layers() -> None:
    shard = pipeline_stage(CONFIG, Span(1, 2))
    builder = BatchBuilder(CONFIG, shard, BLOCK, torch.float32, torch.device("cpu"))
    (group,) = builder.build([PREFILLING]).groups
    assert isinstance(group, PaddedGroup)
    assert set(group.gathered) == {2}


#: One that decodes, and two with guesses behind their last token, of which one has two.
GUESSED = [
    SequenceStep(1, [11], 5, [2, 0], SampleSpec(6)),
    SequenceStep(2, [12, 13], 2, [1], SampleSpec(3), drafts=1),
    SequenceStep(3, [14, 15, 16], 3, [4, 3], SampleSpec(4), drafts=2),
]


def test_a_token_is_sampled_before_each_guess_too(builder: BatchBuilder) -> None:
    built = builder.build([*GUESSED, PREFILLING])
    assert built.tokens.tolist() == [11, 12, 13, 14, 15, 16, 13, 14]
    assert built.positions.tolist() == [5, 2, 3, 3, 4, 5, 3, 4]
    assert built.sampled_rows.tolist() == [0, 1, 2, 3, 4, 5, 7]


def test_gathered_guesses_are_grouped_by_their_number(builder: BatchBuilder) -> None:
    more = [*GUESSED, SequenceStep(4, [17, 18], 0, [5], SampleSpec(1), drafts=1)]
    ordered = builder.order([PREFILLING, *reversed(more)])
    assert [step.sequence_id for step in ordered] == [1, 4, 2, 3, 3]
    groups = builder.build(ordered).groups
    assert [group.rows for group in groups] == [slice(0, 1), slice(1, 5), slice(5, 8), slice(8, 10)]
    pairs = groups[1]
    assert isinstance(pairs, PaddedGroup)
    assert (pairs.batch, pairs.length, pairs.gathered[None].tables.tolist()) == (2, 2, [5, 1])


def test_guesses_that_are_read_in_place_see_none_of_those_behind_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "_PAGED_THREADS", 1024)
    builder = BatchBuilder(CONFIG, whole(CONFIG), BLOCK, torch.float32, torch.device("cpu"))
    (group,) = builder.build(GUESSED).groups
    assert isinstance(group, PagedGroup)
    assert group.rows == slice(0, 6)
    assert group.tables.tolist() == [[2, 0], [1, 0], [1, 0], [4, 3], [4, 3], [4, 3]]
    assert group.spans[None].tolist() == [[0, end] for end in (6, 3, 4, 4, 5, 6)]
