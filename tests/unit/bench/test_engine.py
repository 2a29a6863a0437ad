"""What engines are measured on, and what is made of the figures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tandem.bench.contenders import Contender, Running, Times, Wanted
from tandem.bench.engine import (
    BATCHES,
    BF16,
    MIXED,
    OWN,
    STORED,
    EngineFigure,
    Shapes,
    Streams,
    decode,
    own_ratios,
    that_differ,
)


class _Played(Running):
    """One second for a first token, two for the rest, or four for a queue of requests."""

    def __init__(self) -> None:
        self.prompts: list[list[int]] = []
        self.served: list[list[Wanted]] = []

    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        self.prompts += prompts
        return Times(1.0, 2.0 if tokens > 1 else 0.0)

    def serve(self, wanted: list[Wanted]) -> float:
        self.served.append(wanted)
        return 4.0


def test_shapes_are_prompt_tokens_and_then_new_tokens_a_second() -> None:
    speeds = Shapes(prompt=100, tokens=5).measure(_Played(), 0)
    assert speeds == {"prefill": 100.0, **{decode(batch): batch * 2.0 for batch in BATCHES}}


def test_no_prompt_comes_twice_so_that_none_is_in_a_cache() -> None:
    one = _Played()
    for salt in range(3):
        Shapes(prompt=100, tokens=5).measure(one, salt)
    prompts = [tuple(prompt) for prompt in one.prompts]
    assert len(set(prompts)) == len(prompts)


def test_streams_are_the_tokens_asked_for_over_the_time_until_all_are_there() -> None:
    one = _Played()
    speeds = Streams(requests=8, mean_tokens=32).measure(one, 0)
    _, wanted = one.served  # the first is to warm up
    assert len(wanted) == 8
    assert speeds == {MIXED: sum(each.tokens for each in wanted) / 4.0}


@given(st.integers(1, 50), st.integers(2, 256), st.integers(0, 9))
def test_requests_are_within_their_bounds_and_the_same_for_the_same_round(
    requests: int, mean_tokens: int, salt: int
) -> None:
    drawn = Streams.draw(requests, mean_tokens, salt)
    assert drawn == Streams.draw(requests, mean_tokens, salt)
    assert len(drawn) == requests
    assert all(8 <= len(one.prompt) <= 64 and 2 <= one.tokens <= 256 for one in drawn)


def test_ratios_are_what_int8_and_what_batches_gain() -> None:
    decoding = {decode(batch): 10.0 + batch for batch in BATCHES}
    bf16 = EngineFigure("tandem", "bf16", {"prefill": 100.0, **decoding}, 1.0)
    twice = {name: 2 * speed for name, speed in decoding.items()}
    int8 = EngineFigure("tandem", "int8", {"prefill": 50.0, **twice}, 1.0)
    ratios = own_ratios([bf16, int8])
    assert ratios["int8 / bf16"] == {"prefill": 0.5, **dict.fromkeys(decoding, 2.0)}
    assert ratios["bf16 / its decode 1"][decode(8)] == 18.0 / 11.0
    assert ratios["int8 / its decode 1"][decode(1)] == 1.0


def test_mixed_streams_have_no_batch_to_compare_with() -> None:
    figures = [EngineFigure("tandem", kind, {MIXED: 3.0}, 1.0) for kind in ("bf16", "int8")]
    assert own_ratios(figures) == {"int8 / bf16": {MIXED: 1.0}}


def test_what_files_have_in_few_bits_is_measured_as_that_once() -> None:
    other = Contender("llama.cpp", "q4_0", "llama_cpp", BF16.make)
    assert that_differ([*OWN, other], few_bits=False) == [*OWN, other]
    assert that_differ([*OWN, other], few_bits=True) == [STORED, other]
