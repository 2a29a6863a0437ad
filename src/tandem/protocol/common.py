"""What both directions share: ids, prompts, sampling, usage, model and hardware descriptions."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, NewType

import msgspec

from tandem.errors import TandemError, error_from_code
from tandem.protocol.bounds import (
    Count,
    LogProbability,
    Name,
    Sentence,
    TokenBytes,
    TokenId,
    TokenText,
)

RequestId = NewType("RequestId", str)
ProviderId = NewType("ProviderId", str)
ModelName = NewType("ModelName", str)


class FinishReason(StrEnum):
    """OpenAI's `finish_reason`: `stop` is EOS, a stop string or stop id; `length` is max_tokens."""

    STOP = "stop"
    LENGTH = "length"


class ChatMessage(msgspec.Struct, frozen=True):
    role: str
    content: str
    name: str | None = None


class ChatPrompt(msgspec.Struct, frozen=True, tag="chat"):
    """The provider renders these with the model's chat template."""

    messages: list[ChatMessage]


class TextPrompt(msgspec.Struct, frozen=True, tag="text"):
    text: str


class TokenPrompt(msgspec.Struct, frozen=True, tag="tokens"):
    token_ids: list[int]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


def field_of(prompt: Prompt) -> str:
    """The field of a request that consumers know it by."""
    return "messages" if isinstance(prompt, ChatPrompt) else "prompt"


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen. Ranges were checked at the API; the provider checks token ids.

    `max_tokens` None means as many as the context holds. `seed` None means the provider draws one.
    `logprobs` None means none are wanted; k means the chosen token's and the k likeliest ones.

    With `model_defaults`, what is None from `temperature` to `repetition_penalty` is as the model's
    files say. Without it is as the API says: older coordinators leave out what is so.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    stop: list[str] = []
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    logprobs: int | None = None
    model_defaults: bool = False


class TopLogprob(msgspec.Struct, frozen=True, array_like=True, gc=False):
    token: TokenText
    token_id: TokenId
    logprob: LogProbability
    raw: TokenBytes


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`raw` is the token's bytes: `token` may show half a character as U+FFFD."""

    token: TokenText
    token_id: TokenId
    logprob: LogProbability
    raw: TokenBytes
    top: Annotated[list[TopLogprob], msgspec.Meta(max_length=32)]


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count


class ModelInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model that a provider serves.

    `max_token_bytes` is the most text, in bytes of UTF-8, that one token stands for; 0 where there
    is no saying. `vocabulary` is how many token ids there are; 0 from one that does not say.
    """

    name: Annotated[ModelName, msgspec.Meta(max_length=256)]
    architecture: Name
    parameters: Count
    context_length: Count
    dtype: Name
    quantization: Name | None = None
    max_token_bytes: Count = 0
    vocabulary: Count = 0


class Hardware(msgspec.Struct, frozen=True):
    """The machine, and the device that computes there: `cpu`, `cuda:0 NVIDIA H100`, `mps`.

    `memory_bytes` is the device's: a GPU's own where a GPU computes.
    """

    hostname: Name
    platform: Name
    device: Name
    threads: Count
    memory_bytes: Count


class ErrorInfo(msgspec.Struct, frozen=True):
    """A `TandemError` on the wire."""

    code: Name
    message: Sentence
    param: Name | None = None

    @classmethod
    def of(cls, error: TandemError) -> ErrorInfo:
        return cls(error.code, error.message, error.param)

    def to_error(self) -> TandemError:
        return error_from_code(self.code, self.message, self.param)
