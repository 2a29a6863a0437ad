"""What a request may not ask for, and which parameter is to blame."""

from __future__ import annotations

import pytest

from tandem.engine import EngineLimits, GenerationRequest, LogitBias, SamplingParams
from tandem.engine.limits import check_request
from tandem.errors import ContextLengthExceeded, InvalidRequest

LIMITS = EngineLimits(
    context_length=20, kv_tokens=16, vocabulary_size=100, eos_token_ids=frozenset({9})
)


def request(
    *prompts: list[int],
    samples: int = 1,
    ignore_eos: bool = False,
    produced: list[list[int] | None] | None = None,
    max_tokens: int = 4,
    logit_bias: dict[int, float] | None = None,
) -> GenerationRequest:
    params = SamplingParams(
        max_tokens=max_tokens,
        logit_bias=LogitBias.of(logit_bias or {}),
        stop_token_ids=frozenset({3}),
    )
    return GenerationRequest(
        request_id="r",
        prompts=list(prompts) or [[1, 2]],
        samples=samples,
        params=params,
        stop=[],
        ignore_eos=ignore_eos,
        deadline=0.0,
        produced=produced or [],
    )


def refusal(asked: GenerationRequest) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check_request(asked, LIMITS)
    return caught.value


def test_the_models_end_tokens_end_a_request_unless_it_ignores_them() -> None:
    assert check_request(request(), LIMITS).params.stop_token_ids == {3, 9}
    ignoring = request(ignore_eos=True)
    assert check_request(ignoring, LIMITS) is ignoring


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "param"),
    [(15, 2, "max_tokens"), (16, 1, "prompt"), (16, 0, "prompt"), (40, 4, "prompt")],
)
def test_prompt_and_output_fit_the_smaller_of_context_and_cache(
    prompt: int, max_tokens: int, param: str
) -> None:
    error = refusal(request([1] * prompt, max_tokens=max_tokens))
    assert isinstance(error, ContextLengthExceeded)
    assert error.param == param
    assert "16 tokens" in error.message


def test_what_just_fits_is_served() -> None:
    check_request(request([1] * 15, max_tokens=1), LIMITS)
    check_request(request([1] * 15, max_tokens=0), LIMITS)
    assert LIMITS.room([1] * 15) == 1


@pytest.mark.parametrize("prompts", [([],), ([1], []), ([100],), ([-1],)])
def test_a_prompt_has_tokens_of_the_vocabulary(prompts: tuple[list[int], ...]) -> None:
    assert refusal(request(*prompts)).param == "prompt"


def test_a_bias_is_for_tokens_of_the_vocabulary() -> None:
    error = refusal(request(logit_bias={5: 1.0, 100: 1.0}))
    assert (error.param, "token id 100" in error.message) == ("logit_bias", True)


@pytest.mark.parametrize(
    ("produced", "words"),
    [
        ([[1]], "1 choices, not 2"),
        ([None, None], "every choice in produced has finished"),
        ([[1], [1, 2, 3, 4]], "choice 1 has its 4 tokens already"),
        ([[1], [100]], "outside the vocabulary"),
    ],
)
def test_what_was_produced_belongs_to_the_request(
    produced: list[list[int] | None], words: str
) -> None:
    assert words in refusal(request(samples=2, produced=produced)).message


def test_a_request_goes_on_where_its_choices_are() -> None:
    check_request(request(samples=2, produced=[None, [1, 2, 3]]), LIMITS)
