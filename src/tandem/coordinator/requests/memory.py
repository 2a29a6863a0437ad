"""What requests and answers take in memory, in bytes: of CPython, on 64 bits."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.protocol import ChatPrompt, Delta, Prompt, TextPrompt

#: Each with its place in a list: a message or a prompt, a token id, a log probability's token.
_STRUCT_BYTES = 120
_TOKEN_BYTES = 40
_LOGPROB_BYTES = 256


def memory_of(request: InferenceRequest) -> int:
    """What the prompts of a request take, in bytes: a text has up to four a character."""
    return sum(map(_memory_of, request.task.prompts))


def _memory_of(prompt: Prompt) -> int:
    if isinstance(prompt, ChatPrompt):
        texts = sum(sys.getsizeof(message.content) for message in prompt.messages)
        return texts + _STRUCT_BYTES * len(prompt.messages)
    if isinstance(prompt, TextPrompt):
        return sys.getsizeof(prompt.text) + _STRUCT_BYTES
    return _TOKEN_BYTES * len(prompt.token_ids) + _STRUCT_BYTES


def memory_of_tokens(deltas: Iterable[Delta]) -> int:
    """What their token ids take, which are kept to go on elsewhere."""
    return sum(_TOKEN_BYTES * len(delta.token_ids) for delta in deltas)


def memory_of_answer(deltas: Iterable[Delta]) -> int:
    """What all of them takes, kept until an answer is whole."""
    return sum(_memory_of_delta(delta) for delta in deltas)


def _memory_of_delta(delta: Delta) -> int:
    logprobs = sum(_LOGPROB_BYTES * (1 + len(entry.top)) for entry in delta.logprobs or ())
    return sys.getsizeof(delta.text) + _TOKEN_BYTES * len(delta.token_ids) + logprobs
