"""What an operator decides about one provider process."""

from __future__ import annotations

import msgspec


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`coordinator_url` is `ws://` or `wss://`; `model` a directory or a hub name."""

    coordinator_url: str
    join_token: str
    model: str
    name: str
    model_name: str | None = None
    dtype: str = "auto"
    quantize: str | None = None
    threads: int | None = None
    kv_tokens: int | None = None
    max_sequences: int = 32
    drain_timeout_s: float = 30.0
    answer_timeout_s: float = 10.0
    max_outgoing: int = 8192
