"""The official clients against the whole service: they see no difference between its shapes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from tests.support.running_up import Up, running_up
from tests.support.waiting import DEADLINE_S, until

QUESTION = "What is 3 + 4?"
ANSWER = "3 + 4 = 7."


@pytest.fixture(
    scope="module",
    params=["", "--ranks=2", "--providers=3"],
    ids=["one provider", "two ranks", "three providers"],
)
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    if not request.param:
        yield request.getfixturevalue("shared_up")
        return
    with running_up(tmp_path_factory.mktemp("up"), request.param) as service:
        yield service


@pytest.fixture
def client(up: Up) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=up.base_url, api_key=up.api_key, timeout=DEADLINE_S, max_retries=0
    ) as found:
        yield found


def test_a_chat_is_answered_whole(client: OpenAI, up: Up) -> None:
    answer = client.chat.completions.create(
        model=up.model, messages=[{"role": "user", "content": QUESTION}], temperature=0
    )
    assert answer.object == "chat.completion"
    assert answer.model == up.model
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == ANSWER
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_chat_is_streamed_with_its_usage(client: OpenAI, up: Up) -> None:
    chunks = list(
        client.chat.completions.create(
            model=up.model,
            messages=[{"role": "user", "content": QUESTION}],
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == ANSWER
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "stop"
    assert set(reasons[:-1]) == {None}
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_the_async_client_streams_too(up: Up) -> None:
    async def scenario() -> str:
        async with AsyncOpenAI(
            base_url=up.base_url, api_key=up.api_key, timeout=DEADLINE_S
        ) as asynchronous:
            stream = await asynchronous.chat.completions.create(
                model=up.model,
                messages=[{"role": "user", "content": QUESTION}],
                temperature=0,
                stream=True,
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream])

    assert asyncio.run(scenario()) == ANSWER


def test_a_conversation_and_content_parts_are_understood(client: OpenAI, up: Up) -> None:
    answer = client.chat.completions.create(
        model=up.model,
        messages=[
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hello! How can I help you today?"},
            {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
        ],
        temperature=0,
    )
    assert answer.choices[0].message.content == ANSWER


def test_several_samples_with_logprobs(client: OpenAI, up: Up) -> None:
    answer = client.chat.completions.create(
        model=up.model,
        messages=[{"role": "user", "content": "Tell me a story about a fox."}],
        n=3,
        seed=7,
        temperature=1.5,
        max_tokens=12,
        logprobs=True,
        top_logprobs=2,
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    tokens = 0
    for choice in answer.choices:
        assert choice.logprobs is not None
        content = choice.logprobs.content
        assert content is not None
        tokens += len(content)
        assert all(len(entry.top_logprobs) == 2 for entry in content)
        assert all(entry.logprob <= 0 for entry in content)
        raw = b"".join(bytes(entry.bytes or ()) for entry in content)
        assert (choice.message.content or "") in raw.decode(errors="replace")
    assert tokens == answer.usage.completion_tokens


def test_a_seed_repeats_a_sample(client: OpenAI, up: Up) -> None:
    def sample(seed: int) -> str:
        answer = client.completions.create(
            model=up.model, prompt="the", seed=seed, temperature=2, max_tokens=24
        )
        return answer.choices[0].text

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_stop_strings_end_the_text_before_them(client: OpenAI, up: Up) -> None:
    answer = client.chat.completions.create(
        model=up.model,
        messages=[{"role": "user", "content": "Count to 25."}],
        temperature=0,
        stop=["7, 8"],
    )
    assert answer.choices[0].message.content == "1, 2, 3, 4, 5, 6, "
    assert answer.choices[0].finish_reason == "stop"


def test_text_completions_of_several_prompts(client: OpenAI, up: Up) -> None:
    prompts = ["Once upon a time", "Monday, Tuesday,"]
    answer = client.completions.create(
        model=up.model, prompt=prompts, n=2, max_tokens=4, temperature=0, logprobs=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text == answer.choices[1].text
    alone = client.completions.create(
        model=up.model, prompt=prompts[1], max_tokens=4, temperature=0
    )
    assert answer.choices[2].text == alone.choices[0].text
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.tokens or ()) == len(logprobs.token_logprobs or ()) == 4
    streamed = client.completions.create(
        model=up.model, prompt=prompts[1], max_tokens=4, temperature=0, stream=True
    )
    assert "".join(c.choices[0].text for c in streamed) == alone.choices[0].text


def test_a_repeated_system_prompt_is_not_computed_again(client: OpenAI, up: Up) -> None:
    def cached_tokens(question: str) -> int:
        answer = client.chat.completions.create(
            model=up.model,
            messages=[
                {"role": "system", "content": "You are a patient assistant. " * 20},
                {"role": "user", "content": question},
            ],
            max_tokens=2,
        )
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        return answer.usage.prompt_tokens_details.cached_tokens or 0

    cached_tokens("Hello!")
    assert cached_tokens("Who are you?") > 50


def test_models_are_listed_and_found(client: OpenAI, up: Up) -> None:
    assert [model.id for model in client.models.list()] == [up.model]
    assert client.models.retrieve(up.model).id == up.model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such-model")


def test_a_prompt_over_the_context_names_the_field(client: OpenAI, up: Up) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=up.model, messages=[{"role": "user", "content": "hello " * 5000}]
        )
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=up.model, messages=[{"role": "user", "content": "hello"}], max_tokens=100_000
        )
    assert caught.value.param == "max_tokens"
    for prompt in ("hello " * 5000, [5] * 5000):
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model=up.model, prompt=prompt)
        assert caught.value.code == "context_length_exceeded"
        assert caught.value.param == "prompt"


def test_errors_arrive_as_the_clients_own_types(client: OpenAI, up: Up) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(
            model="no-such-model", messages=[{"role": "user", "content": "hello"}]
        )
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(
            model=up.model, messages=[{"role": "user", "content": "hello"}], temperature=9
        )
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-tandem-wrong").models.list()


def test_a_consumer_who_leaves_frees_the_provider(client: OpenAI, up: Up) -> None:
    stream = client.chat.completions.create(
        model=up.model,
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=1500,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    stream.close()
    headers = {"Authorization": f"Bearer {up.operator_key}"}
    with httpx2.Client(headers=headers, timeout=DEADLINE_S) as http:

        def providers() -> list[dict[str, int]]:
            found: list[dict[str, int]] = http.get(f"{up.base_url}/status").json()["providers"]
            return found

        until(lambda: all(p["in_flight"] == p["running"] == 0 for p in providers()))
        assert all(p["free_blocks"] == p["total_blocks"] for p in providers())
