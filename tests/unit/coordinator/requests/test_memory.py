"""What requests and answers take in memory."""

from __future__ import annotations

import sys

import pytest

from tandem.coordinator.requests.inference_request import Embedding, Generation, InferenceRequest
from tandem.coordinator.requests.memory import memory_of, memory_of_answer, memory_of_tokens
from tandem.protocol import (
    ChatMessage,
    ChatPrompt,
    Delta,
    ModelName,
    Sampling,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    TopLogprob,
)

KIB = 1024


def deltas(logprobs: int | None = None) -> list[Delta]:
    """16 KiB of text, with a token's log probability where it is asked for."""
    entry = TokenLogprob("a", 7, -0.5, b"a", [TopLogprob("a", 7, -0.5, b"a")] * (logprobs or 0))
    return [Delta(0, "a" * 16 * KIB, [7], None if logprobs is None else [entry])]


@pytest.mark.parametrize("text", ["a" * 10_000, "a" * 10_000 + "\N{FOX FACE}"])
def test_a_text_counts_as_wide_as_it_is_kept(text: str) -> None:
    """One rare character makes four bytes of each."""
    model, size = ModelName("m"), sys.getsizeof(text)
    for task in (
        Generation([TextPrompt(text)], 3, Sampling()),
        Generation([ChatPrompt([ChatMessage("user", text)])], 1, Sampling()),
        Embedding([TextPrompt(text)]),
    ):
        assert size <= memory_of(InferenceRequest(model, task)) <= size + 1000


def test_token_ids_count_as_numbers() -> None:
    ids = [1000 + i for i in range(5000)]
    size = sys.getsizeof(ids) + sum(map(sys.getsizeof, ids))
    request = InferenceRequest(ModelName("m"), Embedding([TokenPrompt(ids)]))
    assert size * 0.9 <= memory_of(request) <= size * 1.5


def test_an_answer_counts_with_all_that_is_kept_of_it() -> None:
    plain = memory_of_answer(deltas())
    assert 16 * KIB < plain < 17 * KIB
    assert memory_of_answer(deltas(0)) > plain
    assert memory_of_answer(deltas(20)) > plain + 20 * 200
    assert memory_of_tokens(deltas(20)) < 100
