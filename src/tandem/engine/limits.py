"""What a request may ask of an engine, and the checks of it: pure functions of both."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.generation import GenerationRequest
from tandem.engine.text.tokenizer import Tokenizer
from tandem.errors import ContextLengthExceeded, InvalidRequest


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`context_length` and `kv_tokens` bound prompt + output, in tokens."""

    context_length: int
    kv_tokens: int
    vocabulary_size: int
    eos_token_ids: frozenset[int]

    @property
    def tokens(self) -> int:
        """The most that prompt and output may have together."""
        return min(self.context_length, self.kv_tokens)

    def room(self, prompt: list[int]) -> int:
        """How many tokens may follow the prompt; below 1 when it doesn't fit."""
        return self.tokens - len(prompt)


def end_tokens(config: ModelConfig, tokenizer: Tokenizer) -> frozenset[int]:
    """The configs' and the tokenizer's own: fine-tunes often name theirs in one of them alone."""
    own = tokenizer.eos_token_id
    return config.eos_token_ids | (frozenset() if own is None else {own})


def check_request(request: GenerationRequest, limits: EngineLimits) -> GenerationRequest:
    """The request with the model's end tokens among its own, unless it ignores those.

    Raises InvalidRequest or ContextLengthExceeded, naming the parameter.
    """
    for prompt in request.prompts:
        _check_prompt(prompt, request.params.max_tokens, limits)
    _check_produced(request, limits)
    bias = request.params.logit_bias
    unknown = [] if bias is None else _unknown(bias.token_ids, limits)
    if unknown:
        raise InvalidRequest(
            f"token id {unknown[0]} is not in the vocabulary of {limits.vocabulary_size}",
            param="logit_bias",
        )
    if request.ignore_eos:
        return request
    stops = request.params.stop_token_ids | limits.eos_token_ids
    params = msgspec.structs.replace(request.params, stop_token_ids=stops)
    return msgspec.structs.replace(request, params=params)


def _check_prompt(prompt: list[int], max_tokens: int, limits: EngineLimits) -> None:
    if not prompt:
        raise InvalidRequest("the prompt is empty; it needs at least one token", param="prompt")
    if _unknown(prompt, limits):
        raise InvalidRequest("the prompt has token ids outside the vocabulary", param="prompt")
    room = limits.room(prompt)
    if room < max(1, max_tokens):
        wanted = f" + {max_tokens} max_tokens" if max_tokens else ""
        raise ContextLengthExceeded(
            f"{len(prompt)} prompt tokens{wanted} exceed this model's {limits.tokens} tokens; "
            "shorten the prompt or lower max_tokens",
            param="max_tokens" if max_tokens and room > 0 else "prompt",
        )


def _check_produced(request: GenerationRequest, limits: EngineLimits) -> None:
    choices = len(request.prompts) * request.samples
    if request.produced and len(request.produced) != choices:
        raise InvalidRequest(f"produced has {len(request.produced)} choices, not {choices}")
    if request.produced and all(tokens is None for tokens in request.produced):
        raise InvalidRequest("every choice in produced has finished")
    for index, tokens in enumerate(request.produced):
        prompt = request.prompts[index // request.samples]
        limit = request.params.max_tokens or limits.room(prompt)
        if tokens and len(tokens) >= limit:
            raise InvalidRequest(f"choice {index} has its {limit} tokens already")
        if _unknown(tokens or (), limits):
            raise InvalidRequest("produced has token ids outside the vocabulary")


def _unknown(tokens: Collection[int], limits: EngineLimits) -> list[int]:
    """Millions of tokens may be asked about, and hardly ever is one unknown."""
    if not tokens or (min(tokens) >= 0 and max(tokens) < limits.vocabulary_size):
        return []
    return [token for token in tokens if not 0 <= token < limits.vocabulary_size]
