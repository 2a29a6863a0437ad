"""OpenAI's parameters on their way to a provider: none is lost, and null is the default."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tandem.coordinator.api.openai.schemas import (
    ChatCompletionRequest,
    ChatMessage,
    CompletionRequest,
    GenerationRequest,
)
from tandem.coordinator.api.openai.translate import request_of_chat, request_of_completion
from tandem.coordinator.requests.inference_request import Generation
from tandem.protocol import Sampling

#: One value of each sampling parameter that is not its default, as JSON says it and as it goes on.
GIVEN: dict[str, tuple[Any, Any]] = {
    "max_tokens": (7, 7),
    "temperature": (0.5, 0.5),
    "top_p": (0.25, 0.25),
    "top_k": (9, 9),
    "min_p": (0.125, 0.125),
    "repetition_penalty": (1.5, 1.5),
    "presence_penalty": (-1.0, -1.0),
    "frequency_penalty": (2.0, 2.0),
    "logit_bias": ({"11": -3.0}, {11: -3.0}),
    "seed": (-5, -5),
    "stop": ("end", ["end"]),
    "stop_token_ids": ([3], [3]),
    "ignore_eos": (True, True),
}


def sampled(**parameters: object) -> Sampling:
    """What a chat request asks for."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | parameters
    task = request_of_chat(msgspec.convert(body, ChatCompletionRequest)).task
    assert isinstance(task, Generation)
    return task.sampling


def test_every_sampling_parameter_is_one_of_the_api() -> None:
    """A parameter that the protocol has and the schemas lack could never be asked for."""
    assert set(Sampling.__struct_fields__) - {"logprobs"} == set(GIVEN)
    assert set(GIVEN) <= set(GenerationRequest.__struct_fields__)


@pytest.mark.parametrize("name", GIVEN)
def test_a_parameter_goes_on_and_null_is_its_default(name: str) -> None:
    given, expected = GIVEN[name]
    default = Sampling()
    assert getattr(default, name) != expected
    assert sampled(**{name: given}) == msgspec.structs.replace(default, **{name: expected})
    assert sampled(**{name: None}) == default


@pytest.mark.parametrize(
    ("parameters", "logprobs"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 4}, 4),
    ],
)
def test_logprobs_of_a_chat_are_a_switch_and_a_number(
    parameters: dict[str, object], logprobs: int | None
) -> None:
    assert sampled(**parameters).logprobs == logprobs


def test_a_completion_has_a_default_length_and_a_number_of_logprobs() -> None:
    task = request_of_completion(CompletionRequest(model="m", prompt="hi", logprobs=2)).task
    assert isinstance(task, Generation)
    assert task.sampling == Sampling(max_tokens=16, logprobs=2)


def test_the_newer_name_of_the_length_counts() -> None:
    assert sampled(max_tokens=3, max_completion_tokens=5).max_tokens == 5


def test_top_k_below_0_is_no_limit() -> None:
    assert sampled(top_k=-1).top_k == 0


def test_a_message_without_content_is_an_assistants() -> None:
    messages = [ChatMessage("user", "hi"), ChatMessage("assistant")]
    task = request_of_chat(ChatCompletionRequest(model="m", messages=messages)).task
    (prompt,) = task.prompts
    assert [message.content for message in getattr(prompt, "messages", [])] == ["hi", ""]
