"""What a request is expected to need, before anybody has tokenised it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.coordinator.requests import estimator as module
from tandem.coordinator.requests.consumer import Consumer
from tandem.coordinator.requests.estimator import Estimator
from tandem.coordinator.requests.inference_request import (
    Embedding,
    Generation,
    InferenceRequest,
)
from tandem.coordinator.routing.affinity import Affinity
from tandem.protocol import (
    ChatMessage,
    ChatPrompt,
    ModelName,
    Prompt,
    Sampling,
    TextPrompt,
    TokenPrompt,
)

MODEL = ModelName("m")
KEY = "1"


def generation(
    *prompts: Prompt, n: int = 1, max_tokens: int | None = None, model: ModelName = MODEL
) -> InferenceRequest:
    return InferenceRequest(model, Generation(list(prompts), n, Sampling(max_tokens=max_tokens)))


def estimator() -> Estimator:
    return Estimator(Affinity())


def test_samples_share_their_prompt() -> None:
    demand = estimator().demand(
        generation(TokenPrompt([1] * 10), n=3, max_tokens=5), Consumer(key=KEY)
    )
    assert demand.sequences == 3
    assert demand.prompt_tokens == 10
    assert demand.output_tokens == 5
    assert demand.tokens == 10 + 3 * 5
    assert demand.least_tokens == 15


def test_what_was_produced_is_prefilled_again() -> None:
    request = generation(TokenPrompt([1] * 10), max_tokens=5)
    assert estimator().demand(request, Consumer(key=KEY), produced=4).prompt_tokens == 14


def test_an_answer_without_a_limit_is_as_long_as_usual() -> None:
    learner = estimator()
    unlimited = generation(TextPrompt("x" * 400))
    before = learner.demand(unlimited, Consumer(key=KEY)).output_tokens
    for _ in range(200):
        learner.learn(unlimited, KEY, prompt_tokens=100, completion_tokens=10)
    assert before == 200
    assert learner.demand(unlimited, Consumer(key=KEY)).output_tokens == 10
    # A limit far above the usual length is rarely used up.
    assert (
        learner.demand(
            generation(TextPrompt("x"), max_tokens=4000), Consumer(key=KEY)
        ).output_tokens
        == 40
    )


def test_bytes_a_token_are_learned_for_each_model() -> None:
    learner, other = estimator(), ModelName("other")
    long = TextPrompt("x" * 1000)
    for _ in range(200):
        learner.learn(generation(long), KEY, prompt_tokens=1000, completion_tokens=1)
    assert 990 <= learner.demand(generation(long), Consumer(key=KEY)).prompt_tokens <= 1000
    assert learner.demand(generation(long, model=other), Consumer(key=KEY)).prompt_tokens == 250


def test_text_that_is_sure_to_be_tokenised_is_counted() -> None:
    messages = [ChatMessage("user", "x" * 900), ChatMessage("user", " " * 50 + "x" * 40 + "\n")]
    for request, expected in [
        (generation(TextPrompt("x" * 80), TextPrompt(" " * 90)), 90),
        (generation(ChatPrompt(messages)), 40),
        (generation(TokenPrompt([1] * 99)), 0),
    ]:
        assert estimator().demand(request, Consumer(key=KEY)).text_bytes == expected


@pytest.mark.parametrize(
    ("prompt", "least", "field"),
    [
        (ChatPrompt([ChatMessage("user", "x" * 900)]), 1, "messages"),
        (TextPrompt("x" * 900), 1, "prompt"),
        (TokenPrompt([1] * 900), 900, "prompt"),
    ],
)
def test_a_demand_says_what_its_prompt_takes_and_what_the_consumer_calls_it(
    prompt: Prompt, least: int, field: str
) -> None:
    request = generation(prompt, max_tokens=50)
    demand = estimator().demand(request, Consumer(key=KEY))
    assert (demand.least_prompt, demand.least_tokens) == (least, least + 50)
    assert demand.prompt_field == field


def test_templates_count() -> None:
    chat = ChatPrompt([ChatMessage("user", "x" * 40)] * 2)
    text = TextPrompt("x" * 80)
    assert estimator().tokens(generation(chat), KEY) > estimator().tokens(generation(text), KEY)


def test_embeddings_need_a_prefill_and_teach_nothing() -> None:
    learner = estimator()
    request = InferenceRequest(MODEL, Embedding([TokenPrompt([1] * 4), TokenPrompt([1] * 6)]))
    demand = learner.demand(request, Consumer(key=KEY))
    assert (demand.sequences, demand.prompt_tokens, demand.output_tokens) == (2, 10, 0)
    assert (demand.tokens, demand.least_tokens) == (10, 6)
    before = learner.demand(generation(TextPrompt("x" * 80)), Consumer(key=KEY))
    for _ in range(50):
        learner.learn(request, KEY, prompt_tokens=10, completion_tokens=0)
    assert learner.demand(generation(TextPrompt("x" * 80)), Consumer(key=KEY)) == before


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000))),
    st.text(),
    st.none() | st.integers(1, 10_000),
)
def test_an_estimate_is_sane_after_whatever_was_learned(
    learned: list[tuple[int, int, int]], text: str, max_tokens: int | None
) -> None:
    learner = estimator()
    for size, prompt_tokens, completion_tokens in learned:
        request = generation(TextPrompt("x" * size))
        learner.learn(
            request, KEY, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens
        )
    demand = learner.demand(generation(TextPrompt(text), max_tokens=max_tokens), Consumer(key=KEY))
    assert demand.tokens >= demand.output_tokens >= 1
    assert max_tokens is None or demand.output_tokens <= max_tokens


EMPTY = [ChatMessage("user", "")] * 1000


def test_one_key_teaches_nothing_about_another() -> None:
    """Prompts of empty messages are tokens without text: nobody's text is thousands of tokens."""
    taught, untaught = estimator(), estimator()
    for learner in (taught, untaught):
        for name in ("victim", "other"):
            learner.learn(
                generation(TextPrompt("x" * 400)), name, prompt_tokens=100, completion_tokens=30
            )
    for _ in range(500):
        taught.learn(
            generation(ChatPrompt(EMPTY)), "liar", prompt_tokens=5000, completion_tokens=10**12
        )
    asked = generation(TextPrompt("x" * 4000))
    for name in ("victim", "other", "newcomer"):
        found, due = (
            taught.demand(asked, Consumer(key=name)),
            untaught.demand(asked, Consumer(key=name)),
        )
        # The digests of two coordinators have nothing in common.
        assert found == msgspec.structs.replace(due, prefixes=found.prefixes)
    assert taught.demand(asked, Consumer(key="liar")).prompt_tokens == 1000, (
        "these prompts teach nothing"
    )


@given(st.integers(1, 10**6), st.integers(0, 2**63), st.integers(1, 10**6))
def test_no_text_is_more_tokens_than_bytes_or_hardly_any(
    size: int, prompt_tokens: int, asked: int
) -> None:
    learner = estimator()
    for _ in range(50):
        learner.learn(
            generation(TextPrompt("x" * size)),
            KEY,
            prompt_tokens=prompt_tokens,
            completion_tokens=1,
        )
    found = learner.demand(generation(TextPrompt("x" * asked)), Consumer(key=KEY)).prompt_tokens
    assert asked // 64 <= found <= 4 * asked


def test_a_newcomer_begins_with_what_most_others_are_used_to() -> None:
    learner, asked = estimator(), generation(TextPrompt("x" * 1000))
    for number in range(9):
        for _ in range(100):
            tokens = 500 if number < 6 else 4000
            learner.learn(asked, f"key {number}", prompt_tokens=tokens, completion_tokens=50)
    assert 450 <= learner.demand(asked, Consumer(key="newcomer")).prompt_tokens <= 550
    assert 45 <= learner.demand(asked, Consumer(key="newcomer")).output_tokens <= 55


def test_nothing_is_expected_to_be_larger_than_the_model_can_hold() -> None:
    learner = Estimator(Affinity(), lambda _: 2048)
    asked = generation(TextPrompt("x" * 8_000_000), TextPrompt("x"), n=3, max_tokens=10**9)
    for _ in range(50):
        learner.learn(asked, KEY, prompt_tokens=1, completion_tokens=10**9)
    assert learner.tokens(asked, KEY) <= 2 * 2048 + 6 * 2048


def test_only_so_many_keys_and_models_are_remembered() -> None:
    learner = estimator()
    for number in range(module._MAX_KEYS + 5):
        learner.learn(
            generation(TextPrompt("x" * 100)), f"{number}", prompt_tokens=9, completion_tokens=1
        )
    for number in range(module._MAX_MODELS + 5):
        asked = generation(TextPrompt("x"), model=ModelName(f"{number}"))
        learner.tokens(asked, KEY)
        assert asked.model not in learner._models, "it may be an invention"
        learner.learn(asked, KEY, prompt_tokens=9, completion_tokens=1)
    assert len(learner._models) == module._MAX_MODELS
    assert all(len(habits._keys) <= module._MAX_KEYS for habits in learner._models.values())
