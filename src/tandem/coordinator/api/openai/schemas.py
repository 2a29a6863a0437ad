"""Requests as OpenAI documents them, plus the sampling options that other servers share.

`null` is the same as absent. Unknown fields are refused: a misspelt option that is silently
ignored gives wrong answers. In messages they are ignored, since clients send back what other
servers have put there. Fields of type Raw belong to features that are refused when used: no object
is made of what they hold.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

_INT64_MAX = 2**63 - 1

PositiveInt = Annotated[int, Meta(ge=1, le=2**31)]
Seed = Annotated[int, Meta(ge=-(2**63), le=_INT64_MAX)]
Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
TokenId = Annotated[int, Meta(ge=0, le=2**31)]
StopString = Annotated[str, Meta(min_length=1, max_length=1024)]
#: What `Raw | None` would say, if msgspec gave it anything but null.
ABSENT = Raw(b"null")


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GenerationRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What chat and text completions share."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: PositiveInt | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: (
        Annotated[dict[str, Annotated[float, Meta(ge=-100.0, le=100.0)]], Meta(max_length=4096)]
        | None
    ) = None
    seed: Seed | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=256)] | None = None

    # Not OpenAI's, but known to the clients of other servers.
    top_k: Annotated[int, Meta(ge=-1, le=2**31)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Meta(gt=0.0, le=10.0)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=256)] | None = None
    ignore_eos: bool | None = None

    # Of no consequence here: they change no answer.
    user: str | None = None
    metadata: dict[str, Raw] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    #: Nothing is stored, whatever it says.
    store: bool | None = None


class ContentPart(Struct, frozen=True):
    """Only text is served, and an assistant's refusal; another `type` is refused by name."""

    type: str
    text: str | None = None
    refusal: str | None = None


class ChatMessage(Struct, frozen=True):
    """`content` null is an empty text, as SDKs send it in an assistant's message."""

    role: str
    content: str | list[ContentPart] | None = None
    name: Annotated[str, Meta(max_length=256)] | None = None
    tool_calls: Raw = ABSENT
    tool_call_id: Raw = ABSENT
    function_call: Raw = ABSENT
    audio: Raw = ABSENT


class ResponseFormat(Struct, frozen=True):
    type: str


class ChatCompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: PositiveInt | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    parallel_tool_calls: bool | None = None

    tools: Raw = ABSENT
    tool_choice: Raw = ABSENT
    functions: Raw = ABSENT
    function_call: Raw = ABSENT
    modalities: Raw = ABSENT
    audio: Raw = ABSENT
    prediction: Raw = ABSENT
    reasoning_effort: Raw = ABSENT
    verbosity: Raw = ABSENT
    web_search_options: Raw = ABSENT
    include_reasoning: bool | None = None


class CompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    #: A text, several, token ids, or several lists of token ids.
    prompt: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    echo: bool | None = None
    suffix: str | None = None
