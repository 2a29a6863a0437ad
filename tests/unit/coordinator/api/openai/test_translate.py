"""OpenAI's parameters on their way to a provider: none is lost, and null is not given."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest

from tandem.coordinator.api.decode import RequestDecoder
from tandem.coordinator.api.openai.schemas import (
    ChatCompletionRequest,
    ChatMessage,
    CompletionRequest,
    GenerationRequest,
)
from tandem.coordinator.api.openai.translate import request_of_chat, request_of_completion
from tandem.coordinator.requests.inference_request import Generation
from tandem.errors import InvalidRequest, UnsupportedParameter
from tandem.protocol import ChatPrompt, Sampling

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
    assert set(Sampling.__struct_fields__) - {"logprobs", "model_defaults"} == set(GIVEN)
    assert set(GIVEN) <= set(GenerationRequest.__struct_fields__)


@pytest.mark.parametrize("name", GIVEN)
def test_a_parameter_goes_on_and_null_is_as_if_not_given(name: str) -> None:
    given, expected = GIVEN[name]
    default = Sampling(model_defaults=True)
    assert getattr(default, name) != expected
    assert sampled(**{name: given}) == msgspec.structs.replace(default, **{name: expected})
    assert sampled(**{name: None}) == default


def test_what_is_said_is_passed_on_though_it_is_the_apis_default() -> None:
    """Where nothing is said, the model's own defaults count."""
    said = sampled(temperature=1.0, top_p=1.0, top_k=-1, min_p=0.0, repetition_penalty=1.0)
    wire = msgspec.to_builtins(said)
    assert (wire["temperature"], wire["top_p"], wire["top_k"]) == (1.0, 1.0, 0)
    assert (wire["min_p"], wire["repetition_penalty"]) == (0.0, 1.0)
    assert msgspec.to_builtins(sampled()) == {"model_defaults": True}


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
    assert task.sampling == Sampling(max_tokens=16, logprobs=2, model_defaults=True)


def chatted(**fields: object) -> list[str]:
    """The contents of the messages that a chat request has, as a body says it."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | fields
    decoder = RequestDecoder(ChatCompletionRequest)
    (prompt,) = request_of_chat(decoder.decode(msgspec.json.encode(body))).task.prompts
    assert isinstance(prompt, ChatPrompt)
    return [message.content for message in prompt.messages]


@pytest.mark.parametrize(
    "extras",
    [
        {"reasoning_content": ""},
        {"reasoning": "easy", "reasoning_details": [{"type": "text"}]},
        {"id": 1947, "opts": {"visible": False}},
        {"refusal": None, "annotations": [], "tool_calls": None, "audio": None},
        {"tool_calls": []},
    ],
)
def test_messages_may_hold_what_other_servers_put_there(extras: dict[str, object]) -> None:
    """Clients send back the messages that they got."""
    messages = [{"role": "assistant", "content": "7"} | extras, {"role": "user", "content": "so?"}]
    assert chatted(messages=messages) == ["7", "so?"]


@pytest.mark.parametrize(
    "fields",
    [
        {"store": True},
        {"store": False, "metadata": {"a": "b", "c": None}},
        {"prompt_cache_retention": "24h"},
        {"include_reasoning": True},
        {"modalities": ["text"]},
        {"tools": [], "tool_choice": "auto"},
    ],
)
def test_fields_that_change_no_answer_are_taken(fields: dict[str, object]) -> None:
    assert chatted(**fields) == ["hi"]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{}]},
        {"tools": [{}] * 15_000},
        {"tool_choice": "required"},
        {"modalities": ["audio"]},
        {"include_reasoning": False},
        {"reasoning_effort": "low"},
        {"web_search_options": {}},
    ],
)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, object]) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        chatted(**fields)
    assert refused.value.param == next(iter(fields))


def test_no_object_is_made_of_what_is_not_served() -> None:
    """Anything else takes many times the bytes that it came in."""
    for kind in (ChatCompletionRequest, ChatMessage, CompletionRequest):
        for name, hint in get_type_hints(kind).items():
            assert "Any" not in str(hint), name


def test_an_assistants_refusal_is_what_it_said() -> None:
    parts = [{"type": "refusal", "refusal": "No."}]
    assert chatted(messages=[{"role": "assistant", "content": parts}]) == ["No."]
    with pytest.raises(UnsupportedParameter):
        chatted(messages=[{"role": "user", "content": parts}])
    with pytest.raises(InvalidRequest, match="refusal: is required"):
        chatted(messages=[{"role": "assistant", "content": [{"type": "refusal"}]}])


def test_stop_strings_are_bounded_together() -> None:
    assert len(sampled(stop=["s" * 64] * 256).stop) == 256
    with pytest.raises(InvalidRequest) as refused:
        sampled(stop=["s" * 65] * 256)
    assert refused.value.param == "stop"


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "r" * 100_000, "content": ""}]},
        {"messages": [{"role": "user", "content": [{"type": "t" * 100_000}]}]},
        {"logit_bias": {"k" * 100_000: 1}},
        {"response_format": {"type": "f" * 100_000}},
    ],
)
def test_an_error_repeats_little_of_what_was_said(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chatted(**fields)
    assert len(refused.value.message) < 300


@pytest.mark.parametrize("value", [b'"\xff"', b"[1,]", b'"\\ud800"'])
def test_odd_bytes_of_what_is_not_served_are_an_error_of_the_request(value: bytes) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":%s}' % value
    with pytest.raises(InvalidRequest):
        request_of_chat(RequestDecoder(ChatCompletionRequest).decode(body))


def test_the_newer_name_of_the_length_counts() -> None:
    assert sampled(max_tokens=3, max_completion_tokens=5).max_tokens == 5


def test_top_k_below_0_is_no_limit() -> None:
    assert sampled(top_k=-1).top_k == 0


def test_a_message_without_content_is_an_assistants() -> None:
    messages = [ChatMessage("user", "hi"), ChatMessage("assistant")]
    task = request_of_chat(ChatCompletionRequest(model="m", messages=messages)).task
    (prompt,) = task.prompts
    assert [message.content for message in getattr(prompt, "messages", [])] == ["hi", ""]
