"""Answers as OpenAI documents them, down to the field."""

from __future__ import annotations

import json
import math
from typing import Any

from tandem.coordinator.api.dialect import WholeChoice
from tandem.coordinator.api.openai.format import ChatFormat, TextFormat
from tandem.coordinator.api.openai.schemas import (
    ChatCompletionRequest,
    ChatMessage,
    CompletionRequest,
    StreamOptions,
)
from tandem.errors import ProviderLost
from tandem.protocol import Delta, FinishReason, TokenLogprob, TopLogprob, Usage

USAGE = Usage(5, 2, 3)
USAGE_BODY = {
    "prompt_tokens": 5,
    "completion_tokens": 2,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 3},
}
COUNTED = StreamOptions(include_usage=True)
LOGPROB = TokenLogprob("a", 7, -0.5, b"a", [TopLogprob("b", 8, -math.inf, b"b")])


def chat(options: StreamOptions | None = None) -> ChatFormat:
    messages = [ChatMessage("user", "hi")]
    request = ChatCompletionRequest(model="m", messages=messages, stream_options=options)
    return ChatFormat(request, "1", 99)


def text(options: StreamOptions | None = None) -> TextFormat:
    return TextFormat(CompletionRequest(model="m", prompt="hi", stream_options=options), "1", 99)


def events(written: bytes) -> list[Any]:
    """What the `data:` lines hold."""
    *lines, rest = written.decode().split("\n\n")
    assert rest == ""
    assert all(line.startswith("data: ") for line in lines)
    found = [line.removeprefix("data: ") for line in lines]
    return [each if each == "[DONE]" else json.loads(each) for each in found]


def test_a_chat_opens_with_the_role_of_each_choice() -> None:
    opened = events(chat().opening(2))
    assert [event["choices"][0]["index"] for event in opened] == [0, 1]
    assert opened[0] == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 99,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
    }
    assert text().opening(2) == b""


def test_the_finish_of_a_chat_has_an_event_of_its_own() -> None:
    first, last = events(chat().event(Delta(0, "hello", [1], finish=FinishReason.STOP)))
    assert first["choices"][0]["delta"] == {"content": "hello"}
    assert first["choices"][0]["finish_reason"] is None
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")


def test_half_a_character_is_no_event() -> None:
    held_back = Delta(0, "", [1])
    assert chat().event(held_back) == text().event(held_back) == b""


def test_usage_is_told_to_whoever_wants_it_and_null_until_then() -> None:
    for wanted in (chat(COUNTED), text(COUNTED)):
        (event,) = events(wanted.event(Delta(0, "a", [1])))
        assert event["usage"] is None
        last, done = events(wanted.end(USAGE))
        assert (last["choices"], last["usage"], done) == ([], USAGE_BODY, "[DONE]")
    for plain in (chat(), text(), chat(StreamOptions()), text(StreamOptions(include_usage=False))):
        (event,) = events(plain.event(Delta(0, "a", [1])))
        assert "usage" not in event
        assert events(plain.end(USAGE)) == ["[DONE]"]


def test_an_error_in_a_stream_stands_in_place_of_its_end() -> None:
    (event,) = events(chat().error(ProviderLost("it died")))
    assert event == {
        "error": {
            "message": "it died",
            "type": "server_error",
            "param": None,
            "code": "provider_lost",
        }
    }


def test_offsets_of_a_completions_logprobs_run_on_by_choice() -> None:
    written = text()
    for index in (0, 1):
        for offset in (0, 1):
            (event,) = events(written.event(Delta(index, "a", [7], [LOGPROB])))
            assert event["choices"][0]["logprobs"]["text_offset"] == [offset]


def test_a_token_that_cannot_come_has_a_finite_logprob() -> None:
    """JSON has no infinity."""
    (event,) = events(chat().event(Delta(0, "a", [7], [LOGPROB])))
    (entry,) = event["choices"][0]["logprobs"]["content"]
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("a", -0.5, [97])
    assert entry["top_logprobs"] == [{"token": "b", "logprob": -9999.0, "bytes": [98]}]


def test_a_whole_answer_joins_what_came_in_pieces() -> None:
    choice = WholeChoice()
    choice.add(Delta(0, "hel", [1], [LOGPROB]))
    choice.add(Delta(0, "lo", [2], [LOGPROB], FinishReason.LENGTH))
    body = json.loads(chat().whole({0: choice}, USAGE))
    assert body["object"] == "chat.completion"
    assert body["usage"] == USAGE_BODY
    (written,) = body["choices"]
    assert written["message"] == {"role": "assistant", "content": "hello", "refusal": None}
    assert written["finish_reason"] == "length"
    assert len(written["logprobs"]["content"]) == 2
    body = json.loads(text().whole({0: choice}, USAGE))
    assert (body["object"], body["choices"][0]["text"]) == ("text_completion", "hello")


def test_with_obfuscation_an_events_size_tells_nothing_of_its_text() -> None:
    hidden = StreamOptions(include_obfuscation=True, include_usage=True)
    for make in (chat, text):
        shown, padded = make(COUNTED), make(hidden)
        sizes = set()
        for size in range(1, 24):
            delta = Delta(0, "x" * size, [size])
            event = padded.event(delta)
            sizes.add(len(event))
            fields = json.loads(event.removeprefix(b"data: "))
            assert fields.pop("obfuscation")
            assert fields == json.loads(shown.event(delta).removeprefix(b"data: "))
        assert len(sizes) == 1
        first, second = (padded.event(Delta(0, "x", [1])) for _ in range(2))
        assert first != second, "what compresses well would tell the size again"
