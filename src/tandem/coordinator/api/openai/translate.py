"""From OpenAI's requests to what a provider is asked, refusing by name what is not served."""

from __future__ import annotations

from typing import Any

import msgspec

from tandem import protocol
from tandem.coordinator.api.openai.schemas import (
    ABSENT,
    ChatCompletionRequest,
    ChatMessage,
    CompletionRequest,
    ContentPart,
    GenerationRequest,
)
from tandem.coordinator.requests.inference_request import Generation, InferenceRequest
from tandem.errors import InvalidRequest, UnsupportedParameter

#: Roles as the chat templates of models know them.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_TOOL_ROLES = {"tool", "function"}
#: Sequences that one request may start: prompts times n.
_MAX_SEQUENCES = 128

#: Characters of all stop strings: each token of an answer is compared with them.
_MAX_STOP_LENGTH = 16 * 1024
_MAX_HARMLESS_BYTES = 64
_MAX_SHOWN = 64

#: Sampling parameters that go on under their name; null is not given. `_sampling` has the others
#: that are named alike and said differently.
_SAME_NAME = frozenset(protocol.Sampling.__struct_fields__) & frozenset(
    GenerationRequest.__struct_fields__
)

#: Parameters of features that are not served, with the values that ask for nothing.
_UNSERVED_CHAT: dict[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None, "none"),
    "verbosity": (None,),
    "web_search_options": (None,),
    "include_reasoning": (None, True),
}
_UNSERVED_MESSAGE: dict[str, tuple[Any, ...]] = {
    "tool_calls": (None, []),
    "tool_call_id": (None,),
    "function_call": (None,),
    "audio": (None,),
}
_UNSERVED_COMPLETION: dict[str, tuple[Any, ...]] = {"echo": (None, False), "suffix": (None, "")}


def request_of_chat(request: ChatCompletionRequest) -> InferenceRequest:
    """Raises InvalidRequest or UnsupportedParameter."""
    _refuse_unserved(request, _UNSERVED_CHAT)
    given = "text" if request.response_format is None else request.response_format.type
    if given != "text":
        raise UnsupportedParameter(
            f"response_format.type: only `text` is served, not {_shown(given)}",
            param="response_format.type",
        )
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("top_logprobs: needs logprobs to be true", param="top_logprobs")
    messages = [_message(message, i) for i, message in enumerate(request.messages)]
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    task = Generation(
        prompts=[protocol.ChatPrompt(messages)],
        n=request.n or 1,
        sampling=_sampling(request, request.max_completion_tokens, logprobs),
    )
    return InferenceRequest(protocol.ModelName(request.model), task)


def request_of_completion(request: CompletionRequest) -> InferenceRequest:
    """Raises InvalidRequest or UnsupportedParameter."""
    _refuse_unserved(request, _UNSERVED_COMPLETION)
    n = request.n or 1
    if request.best_of not in (None, n):
        raise UnsupportedParameter("best_of: only the value of n is served", param="best_of")
    prompts = _prompts(request.prompt)
    if len(prompts) * n > _MAX_SEQUENCES:
        raise InvalidRequest(
            f"prompt: {len(prompts)} prompts times n = {n} is over {_MAX_SEQUENCES}", param="prompt"
        )
    task = Generation(
        prompts=prompts,
        n=n,
        # OpenAI's default for this route; chat has none.
        sampling=_sampling(request, None, request.logprobs, default_max_tokens=16),
    )
    return InferenceRequest(protocol.ModelName(request.model), task)


def _sampling(
    request: GenerationRequest,
    max_completion_tokens: int | None,
    logprobs: int | None,
    *,
    default_max_tokens: int | None = None,
) -> protocol.Sampling:
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options: needs stream to be true", param="stream_options")
    given = {name: getattr(request, name) for name in _SAME_NAME}
    translated = {
        "max_tokens": max_completion_tokens or request.max_tokens or default_max_tokens,
        "top_k": None if request.top_k is None else max(0, request.top_k),
        "logit_bias": _logit_bias(request.logit_bias or {}),
        "stop": _stop(request.stop or []),
        "logprobs": logprobs,
        "model_defaults": True,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return protocol.Sampling(**(chosen | translated))


def _stop(given: str | list[str]) -> list[str]:
    stop = [given] if isinstance(given, str) else given
    if (length := sum(map(len, stop))) > _MAX_STOP_LENGTH:
        raise InvalidRequest(
            f"stop: {length} characters together are over {_MAX_STOP_LENGTH}", param="stop"
        )
    return stop


def _logit_bias(given: dict[str, float]) -> dict[int, float]:
    """JSON has no integer keys: token ids come as decimal text."""
    for key in given:
        if not (key.isascii() and key.isdecimal() and len(key) < 10):
            raise InvalidRequest(f"logit_bias: {_shown(key)} is not a token id", param="logit_bias")
    return {int(key): bias for key, bias in given.items()}


def _message(message: ChatMessage, index: int) -> protocol.ChatMessage:
    where = f"messages[{index}]"
    role = _ROLES.get(message.role)
    if message.role in _TOOL_ROLES:
        raise UnsupportedParameter(f"{where}.role: tools are not served", param=f"{where}.role")
    if role is None:
        known = ", ".join(_ROLES)
        raise InvalidRequest(
            f"{where}.role: {_shown(message.role)} is not one of {known}", param=f"{where}.role"
        )
    _refuse_unserved(message, _UNSERVED_MESSAGE, where + ".")
    if message.content is None and role != "assistant":
        raise InvalidRequest(f"{where}.content: is required", param=f"{where}.content")
    content = _text(message.content, role, f"{where}.content")
    return protocol.ChatMessage(role, content, message.name)


def _text(content: str | list[ContentPart] | None, role: str, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(_part(part, role, f"{where}[{i}]") for i, part in enumerate(content))


def _part(part: ContentPart, role: str, where: str) -> str:
    if part.type == "refusal" and role == "assistant":
        kind, text = "refusal", part.refusal
    elif part.type == "text":
        kind, text = "text", part.text
    else:
        raise UnsupportedParameter(
            f"{where}.type: only `text` is served, not {_shown(part.type)}", param=f"{where}.type"
        )
    if text is None:
        raise InvalidRequest(f"{where}.{kind}: is required", param=f"{where}.{kind}")
    return text


def _prompts(prompt: str | list[str | int | list[int]]) -> list[protocol.Prompt]:
    if isinstance(prompt, str):
        return [protocol.TextPrompt(prompt)]
    numbers = [item for item in prompt if isinstance(item, int)]
    if len(numbers) == len(prompt):
        return [protocol.TokenPrompt(numbers)]
    if numbers:
        raise InvalidRequest("prompt: token ids and texts do not mix in one list", param="prompt")
    return [
        protocol.TextPrompt(item) if isinstance(item, str) else protocol.TokenPrompt(item)
        for item in prompt
        if not isinstance(item, int)
    ]


def _refuse_unserved(
    given: GenerationRequest | ChatMessage, unserved: dict[str, tuple[Any, ...]], where: str = ""
) -> None:
    for field, harmless in unserved.items():
        value = getattr(given, field)
        if value is not ABSENT and _plain(value) not in harmless:
            path = where + field
            raise UnsupportedParameter(f"{path}: this feature is not served", param=path)


def _plain(value: object) -> object:
    """A raw value as it is when it may ask for nothing; a long one is sure to ask for something."""
    if not isinstance(value, msgspec.Raw) or len(value) > _MAX_HARMLESS_BYTES:
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return value


def _shown(text: str) -> str:
    """The consumer's own words in an error, of which there may be megabytes."""
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")
