"""The dialect of OpenAI: chat completions and text completions."""

from __future__ import annotations

from tandem.coordinator.api.dialect import Dialect, InferenceRoute
from tandem.coordinator.api.openai.errors import error_body
from tandem.coordinator.api.openai.format import ChatFormat, TextFormat
from tandem.coordinator.api.openai.schemas import ChatCompletionRequest, CompletionRequest
from tandem.coordinator.api.openai.translate import request_of_chat, request_of_completion

DIALECT = Dialect(
    routes=(
        InferenceRoute("/v1/chat/completions", ChatCompletionRequest, request_of_chat, ChatFormat),
        InferenceRoute("/v1/completions", CompletionRequest, request_of_completion, TextFormat),
    ),
    error_body=error_body,
)

__all__ = ["DIALECT"]
