"""What an honest provider can answer: everything else is refused, by rule and at random."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.coordinator.requests.answer_rules import AnswerCheck, Expected
from tandem.coordinator.requests.inference_request import Embedding, Generation, InferenceRequest
from tandem.coordinator.requests.produced import Produced
from tandem.errors import ProtocolError
from tandem.protocol import (
    AnswerPart,
    ChatMessage,
    ChatPrompt,
    Chunk,
    Delta,
    Finished,
    FinishReason,
    ModelInfo,
    ModelName,
    Prompt,
    Sampling,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    TopLogprob,
    Usage,
    decode_answer_part,
    encode,
)

MODEL = ModelName("m")
INFO = ModelInfo(MODEL, "llama", 1, 100, "float32", vocabulary=50)
STOP = FinishReason.STOP
HI = TextPrompt("hi")


def expected(
    prompt: Prompt = HI,
    max_tokens: int | None = 4,
    n: int = 2,
    **more: Any,  # noqa: ANN401 - any field
) -> Expected:
    task = Generation([prompt], n, Sampling(max_tokens=max_tokens, **more))
    produced = Produced(n)
    return Expected.of(InferenceRequest(MODEL, task), produced, produced.next_turn(n), INFO)


def check(**more: Any) -> AnswerCheck:  # noqa: ANN401 - any field
    return AnswerCheck(expected(**more))


def tokens(index: int, *ids: int, text: str = "", finish: FinishReason | None = None) -> Chunk:
    return Chunk([Delta(index, text, list(ids), finish=finish)], 7)


def entry(token: int = 1) -> TokenLogprob:
    return TokenLogprob("a", token, -1.0, b"a", [])


def test_an_honest_answer_passes() -> None:
    one = check(logprobs=0)
    assert one.chunk(Chunk([], 7))
    assert one.chunk(Chunk([], prefilled=5))
    assert one.chunk(Chunk([Delta(0, "a", [1], [entry()]), Delta(1, "b", [49])]))
    assert one.chunk(tokens(0, 1, 2, 3, finish=FinishReason.LENGTH))
    assert one.chunk(tokens(1, finish=STOP))
    one.finished(Finished(Usage(7, 5, 3)))
    assert (one.prompt_tokens, one.tokens) == (7, 5)


@pytest.mark.parametrize(
    "lie",
    [
        tokens(2, 1),
        tokens(0, 1, 2, 3, 4, 5),
        tokens(0, 50),
        tokens(0, 1, text="a" * 10_000),
        tokens(0, text="a" * 5000),
        Chunk([Delta(0, "", [1], [entry()])]),
        Chunk([], 101),
        Chunk([], 7, prefilled=15),
    ],
    ids=[
        "no such choice",
        "too many tokens",
        "no such token",
        "long text",
        "text without tokens",
        "logprobs unasked",
        "prompt beyond the context",
        "more prefilled than there is",
    ],
)
def test_a_chunk_that_cannot_be_is_refused(lie: Chunk) -> None:
    with pytest.raises(ProtocolError):
        check().chunk(lie)


def test_a_choice_that_has_finished_gets_nothing_more() -> None:
    one = check()
    one.chunk(tokens(0, 1, finish=STOP))
    with pytest.raises(ProtocolError, match="choice 0"):
        one.chunk(tokens(0, 1))


def test_there_are_no_more_log_probabilities_than_tokens() -> None:
    one = check(logprobs=3)
    one.chunk(Chunk([Delta(0, "", [1, 2], [entry()])]))
    with pytest.raises(ProtocolError, match="log probabilities"):
        one.chunk(Chunk([Delta(0, "", [1], [entry(), entry()])]))


def test_a_chunk_has_no_more_log_probabilities_than_are_written_in_a_moment() -> None:
    one = check(max_tokens=None, n=1, logprobs=20)
    top = [TopLogprob("a", 1, -1.0, b"a")] * 20
    entries = [TokenLogprob("a", 1, -1.0, b"a", top)] * 90
    one.chunk(Chunk([Delta(0, "", [1] * 90, entries)]))
    vast = AnswerCheck(msgspec.structs.replace(expected(n=1, logprobs=20), room={0: 1000}))
    with pytest.raises(ProtocolError, match="at most 8192"):
        vast.chunk(Chunk([Delta(0, "", [1] * 450, entries * 5)]))


def test_a_prompt_has_one_number_of_tokens() -> None:
    one = check()
    one.chunk(Chunk([], 7))
    with pytest.raises(ProtocolError, match="7 tokens, and now 8"):
        one.chunk(Chunk([], 8))


@pytest.mark.parametrize(
    ("usage", "finish"),
    [
        (Usage(8, 1, 0), STOP),
        (Usage(7, 2, 0), STOP),
        (Usage(7, 0, 0), STOP),
        (Usage(7, 1, 0), None),
    ],
    ids=["another prompt", "a token more", "a token fewer", "before the end"],
)
def test_an_end_that_cannot_be_is_refused(usage: Usage, finish: FinishReason | None) -> None:
    one = check(n=1)
    one.chunk(tokens(0, 1, finish=finish))
    with pytest.raises(ProtocolError):
        one.finished(Finished(usage))


def test_token_ids_are_counted_here() -> None:
    one = check(prompt=TokenPrompt([1, 2, 3]))
    with pytest.raises(ProtocolError, match="cannot have 4"):
        one.chunk(Chunk([], 4))


def test_a_short_text_is_no_long_prompt_whatever_context_is_claimed() -> None:
    vast = msgspec.structs.replace(INFO, context_length=2**50)
    for prompt in (TextPrompt("hi"), ChatPrompt([ChatMessage("user", "hi")])):
        request = InferenceRequest(MODEL, Generation([prompt], 1, Sampling()))
        one = AnswerCheck(Expected.of(request, Produced(1), frozenset({0}), vast))
        with pytest.raises(ProtocolError, match="cannot have"):
            one.chunk(Chunk([], 1_000_000))


def test_whoever_goes_on_has_the_room_that_is_left_and_may_count_either_way() -> None:
    produced = Produced(2)
    produced.add([Delta(0, "", [1, 2, 3]), Delta(1, "", [4, 5], finish=STOP)])
    request = InferenceRequest(
        MODEL, Generation([TextPrompt("hi")], 2, Sampling(max_tokens=4, seed=1))
    )
    left = Expected.of(request, produced, produced.next_turn(9), INFO)
    assert left.room == {0: 1}
    one = AnswerCheck(left)
    one.chunk(tokens(0, 9, finish=STOP))
    for said in (1, 4, 6):
        one.finished(Finished(Usage(7, said, 0)))
    with pytest.raises(ProtocolError, match="7 tokens are said"):
        one.finished(Finished(Usage(7, 7, 0)))


def test_an_embedding_has_no_tokens() -> None:
    request = InferenceRequest(MODEL, Embedding([TextPrompt("hi"), TextPrompt("ho")]))
    one = AnswerCheck(Expected.of(request, Produced(0), frozenset(), INFO))
    with pytest.raises(ProtocolError):
        one.chunk(Chunk([Delta(0, "", [1])]))
    one.finished(Finished(Usage(150, 0, 0)))


def test_chunks_that_say_nothing_come_to_an_end() -> None:
    one = check()
    one.chunk(Chunk([], 7))
    for _ in range(16):
        assert not one.chunk(Chunk([Delta(0, "", [])], 7))
    with pytest.raises(ProtocolError, match="nothing new"):
        one.chunk(Chunk([], 7))


LIES: list[object] = [-1, 2**31, 2**63, 1.5, math.nan, None, "7", []]
PARTS = [
    *("index", "token", "logprob", "prompt"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "times"),
]
#: What is no lie everywhere, or is for `AnswerCheck.finished` to judge.
TRUE: list[tuple[str, object]] = [
    ("logprob", -1),
    ("times", 2**31),
    ("times", 1.5),
    *((part, 2**31) for part in ("prompt_tokens", "completion_tokens", "cached_tokens")),
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(
            Chunk,
            st.lists(
                st.builds(
                    Delta,
                    st.integers(0, 3),
                    st.text(max_size=9),
                    st.lists(st.integers(0, 60), max_size=6),
                    st.none(),
                    st.sampled_from([None, *FinishReason]),
                ),
                max_size=4,
            ),
            st.integers(0, 120),
            st.integers(0, 300),
        ),
        max_size=30,
    )
)
def test_no_answer_brings_more_than_was_asked_for(chunks: list[Chunk]) -> None:
    one, got = check(), {0: 0, 1: 0}
    for chunk in chunks:
        try:
            one.chunk(chunk)
        except ProtocolError:
            return
        for delta in chunk.deltas:
            assert all(token < INFO.vocabulary for token in delta.token_ids)
            got[delta.index] += len(delta.token_ids)
    assert max(got.values()) <= 4
    assert one.tokens == sum(got.values())
    assert one.prompt_tokens <= INFO.context_length


@pytest.mark.parametrize("lie", LIES, ids=repr)
@pytest.mark.parametrize("part", PARTS)
def test_no_number_is_taken_that_cannot_be(part: str, lie: object) -> None:
    one = check(logprobs=3, n=1)
    body = encode_part(part, lie)
    if (part, lie) in TRUE:
        answer = decode_answer_part(body)
        assert isinstance(answer, Chunk | Finished)
        return
    with pytest.raises(ProtocolError):
        take(one, decode_answer_part(body))


def take(one: AnswerCheck, answer: AnswerPart) -> None:
    assert isinstance(answer, Chunk), "nothing else decodes"
    one.chunk(answer)


def encode_part(part: str, lie: object) -> bytes:
    """An answer with this one thing in it, whatever that is."""
    usage: dict[str, object] = {"prompt_tokens": 7, "completion_tokens": 1, "cached_tokens": 0}
    if part in usage:
        body: dict[str, object] = {"type": "finished", "usage": usage | {part: lie}}
    elif part == "times":
        body = {"type": "finished", "usage": usage, "stages": [lie] * 4}
    else:
        given: dict[str, object] = {"index": 0, "token": 1, "logprob": -1.0, "prompt": 7}
        given[part] = lie
        entry = ["a", 1, given["logprob"], b"a", []]
        deltas = [[given["index"], "a", [given["token"]], [entry]]]
        body = {"type": "chunk", "deltas": deltas, "prompt_tokens": given["prompt"]}
    return msgspec.msgpack.encode(body)


def test_an_answer_larger_than_any_honest_one_is_not_decoded() -> None:
    large = encode(Chunk([Delta(0, "a" * 2**21, [1])]))
    with pytest.raises(ProtocolError, match="more than"):
        decode_answer_part(large)
