"""What a request is expected to need, before anybody has tokenised it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

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


def generation(
    *prompts: Prompt, n: int = 1, max_tokens: int | None = None, model: ModelName = MODEL
) -> InferenceRequest:
    return InferenceRequest(model, Generation(list(prompts), n, Sampling(max_tokens=max_tokens)))


def estimator() -> Estimator:
    return Estimator(Affinity())


def test_samples_share_their_prompt() -> None:
    demand = estimator().demand(generation(TokenPrompt([1] * 10), n=3, max_tokens=5), Consumer())
    assert demand.sequences == 3
    assert demand.prompt_tokens == 10
    assert demand.output_tokens == 5
    assert demand.tokens == 10 + 3 * 5
    assert demand.least_tokens == 15


def test_what_was_produced_is_prefilled_again() -> None:
    request = generation(TokenPrompt([1] * 10), max_tokens=5)
    assert estimator().demand(request, Consumer(), produced=4).prompt_tokens == 14


def test_an_answer_without_a_limit_is_as_long_as_usual() -> None:
    learner = estimator()
    unlimited = generation(TextPrompt("x" * 400))
    before = learner.demand(unlimited, Consumer()).output_tokens
    for _ in range(200):
        learner.learn(unlimited, prompt_tokens=100, completion_tokens=10)
    assert before == 200
    assert learner.demand(unlimited, Consumer()).output_tokens == 10
    # A limit far above the usual length is rarely used up.
    assert (
        learner.demand(generation(TextPrompt("x"), max_tokens=4000), Consumer()).output_tokens == 40
    )


def test_bytes_a_token_are_learned_for_each_model() -> None:
    learner, other = estimator(), ModelName("other")
    long = TextPrompt("x" * 1000)
    for _ in range(200):
        learner.learn(generation(long), prompt_tokens=1000, completion_tokens=1)
    assert 990 <= learner.demand(generation(long), Consumer()).prompt_tokens <= 1000
    assert learner.demand(generation(long, model=other), Consumer()).prompt_tokens == 250


def test_templates_count() -> None:
    chat = ChatPrompt([ChatMessage("user", "x" * 40)] * 2)
    text = TextPrompt("x" * 80)
    assert estimator().tokens(generation(chat)) > estimator().tokens(generation(text))


def test_embeddings_need_a_prefill_and_teach_nothing() -> None:
    learner = estimator()
    request = InferenceRequest(MODEL, Embedding([TokenPrompt([1] * 4), TokenPrompt([1] * 6)]))
    demand = learner.demand(request, Consumer())
    assert (demand.sequences, demand.prompt_tokens, demand.output_tokens) == (2, 10, 0)
    assert (demand.tokens, demand.least_tokens) == (10, 6)
    before = learner.demand(generation(TextPrompt("x" * 80)), Consumer())
    for _ in range(50):
        learner.learn(request, prompt_tokens=10, completion_tokens=0)
    assert learner.demand(generation(TextPrompt("x" * 80)), Consumer()) == before


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
        learner.learn(request, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
    demand = learner.demand(generation(TextPrompt(text), max_tokens=max_tokens), Consumer())
    assert demand.tokens >= demand.output_tokens >= 1
    assert max_tokens is None or demand.output_tokens <= max_tokens
