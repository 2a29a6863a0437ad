"""Messages that a provider sends. Unknown fields are ignored, so old and new ones coexist."""

from __future__ import annotations

from typing import Any

import msgspec

from tandem.protocol.common import (
    ErrorInfo,
    FinishReason,
    Hardware,
    ModelInfo,
    RequestId,
    TokenLogprob,
    Usage,
)


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message on a connection. `name` is the operator's label for the machine."""

    versions: list[int]
    join_token: str
    name: str
    software: str
    hardware: Hardware
    models: list[ModelInfo]


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat", omit_defaults=True):
    """Load as the scheduler sees it: sequences and KV blocks. `ready` is false while draining.

    `cluster_role` is the rank in a cluster, absent outside of one. It is decoded as it comes: what
    is no rank must reach the coordinator, which then sends nothing there. A cluster whose ranks
    add up without encryption says so.
    """

    ready: bool
    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    cluster_role: Any = None
    plaintext_collectives: bool = False


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """New output of one choice. `finish` is set on the choice's last delta, and only there.

    `text` may be empty while `token_ids` is not: half a character or a possible stop string is
    held back. Choice `index` is prompt index * n + sample index.
    """

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob] | None = None
    finish: FinishReason | None = None


def join_deltas(first: Delta, second: Delta) -> Delta:
    """Two successive deltas of one choice as one."""
    assert first.index == second.index, "only one choice's deltas can be joined"
    logprobs = None
    if first.logprobs is not None or second.logprobs is not None:
        logprobs = [*(first.logprobs or ()), *(second.logprobs or ())]
    return Delta(
        index=first.index,
        text=first.text + second.text,
        token_ids=first.token_ids + second.token_ids,
        logprobs=logprobs,
        finish=second.finish,
    )


class Chunk(msgspec.Struct, frozen=True, tag="chunk"):
    request_id: RequestId
    number: int
    deltas: list[Delta]


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """Every choice has finished. `usage` counts the prompt once, however many choices."""

    request_id: RequestId
    usage: Usage


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    request_id: RequestId
    error: ErrorInfo


class Draining(msgspec.Struct, frozen=True, tag="draining"):
    """The provider stops: it takes nothing new and finishes what it has."""


ToCoordinator = Hello | Heartbeat | Chunk | Finished | Failed | Draining
