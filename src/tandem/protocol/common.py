"""What both directions share: ids, prompts, sampling, usage, model and hardware descriptions."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

import msgspec

from tandem.errors import TandemError, error_from_code

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


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen. Ranges were checked at the API; the provider checks token ids.

    `max_tokens` None means as many as the context holds. `seed` None means the provider draws one.
    `logprobs` None means none are wanted; k means the chosen token's and the k likeliest ones.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    stop: list[str] = []
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    logprobs: int | None = None


class TopLogprob(msgspec.Struct, frozen=True, array_like=True):
    token: str
    token_id: int
    logprob: float
    raw: bytes


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """`raw` is the token's bytes: `token` may show half a character as U+FFFD."""

    token: str
    token_id: int
    logprob: float
    raw: bytes
    top: list[TopLogprob]


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class ModelInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model that a provider serves.

    `max_token_bytes` is the most text, in bytes of UTF-8, that one token stands for; 0 where there
    is no saying.
    """

    name: ModelName
    architecture: str
    parameters: int
    context_length: int
    dtype: str
    quantization: str | None = None
    max_token_bytes: int = 0


class Hardware(msgspec.Struct, frozen=True):
    """The machine, and the device that computes there: `cpu`, `cuda:0 NVIDIA H100`, `mps`.

    `memory_bytes` is the device's: a GPU's own where a GPU computes.
    """

    hostname: str
    platform: str
    device: str
    threads: int
    memory_bytes: int


class ErrorInfo(msgspec.Struct, frozen=True):
    """A `TandemError` on the wire."""

    code: str
    message: str
    param: str | None = None

    @classmethod
    def of(cls, error: TandemError) -> ErrorInfo:
        return cls(error.code, error.message, error.param)

    def to_error(self) -> TandemError:
        return error_from_code(self.code, self.message, self.param)
