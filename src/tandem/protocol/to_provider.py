"""Messages that the coordinator sends to a provider."""

from __future__ import annotations

import msgspec

from tandem.protocol.common import (
    ErrorInfo,
    ModelName,
    Prompt,
    ProviderId,
    RequestId,
    Sampling,
)


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    version: int
    provider_id: ProviderId
    heartbeat_interval_s: float


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    error: ErrorInfo


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """One request: `n` samples of each prompt. `window` is how many chunks may be under way."""

    request_id: RequestId
    model: ModelName
    prompts: list[Prompt]
    n: int
    sampling: Sampling
    deadline_s: float
    window: int


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    """Flow control: `chunks` more may be sent for this request."""

    request_id: RequestId
    chunks: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    request_id: RequestId


ToProvider = Welcome | Refused | Generate | Grant | Cancel
