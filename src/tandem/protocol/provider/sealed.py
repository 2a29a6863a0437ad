"""What travels sealed between coordinator and provider: prompts one way, tokens the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from tandem.protocol.bounds import Count, TokenId, UnixTime
from tandem.protocol.common import (
    ErrorInfo,
    FinishReason,
    Prompt,
    Sampling,
    TokenLogprob,
    Usage,
)


class Generate(msgspec.Struct, frozen=True, omit_defaults=True):
    """`n` samples of each prompt. The answers are sealed with `reply_key`.

    The first kind of work that there was: it has no `type` on the wire.

    `produced` is for a request that another provider began: the tokens that each choice has so
    far, None for one that has finished. Only what follows is sent.

    Only requests of one `cache_scope` share cached prefixes: how much of a prompt was cached tells
    nobody what others have asked.
    """

    reply_key: bytes
    prompts: list[Prompt]
    n: int
    sampling: Sampling
    produced: list[list[int] | None] = []
    cache_scope: bytes = b""


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """A vector of each prompt. The answers are sealed with `reply_key`."""

    reply_key: bytes
    prompts: list[Prompt]


#: What a provider can be asked for.
Work = Generate | Embed


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """New output of one choice. `finish` is set on the choice's last delta, and only there.

    `text` may be empty while `token_ids` is not: half a character or a possible stop string is
    held back, and an end token has none. Choice `index` is prompt index * n + sample index.
    """

    index: Count
    text: str
    token_ids: list[TokenId]
    logprobs: Annotated[list[TokenLogprob], msgspec.Meta(max_length=8192)] | None = None
    finish: FinishReason | None = None


def join_deltas(deltas: Sequence[Delta]) -> Delta:
    """Successive deltas of one choice, at least one of them, as one."""
    if len(deltas) == 1:
        return deltas[0]
    with_logprobs = [delta.logprobs for delta in deltas if delta.logprobs is not None]
    return Delta(
        index=deltas[0].index,
        text="".join([delta.text for delta in deltas]),
        token_ids=[token for delta in deltas for token in delta.token_ids],
        logprobs=[entry for entries in with_logprobs for entry in entries] or None,
        finish=deltas[-1].finish,
    )


class Chunk(msgspec.Struct, frozen=True, tag="chunk", omit_defaults=True):
    """`prompt_tokens` comes with the first, so that a stream that breaks can be accounted for.

    Before the first token a chunk may come without deltas, to say that the request gets on:
    `prefilled` of its prompts' tokens are computed.
    """

    deltas: Annotated[list[Delta], msgspec.Meta(max_length=1024)]
    prompt_tokens: Count = 0
    prefilled: Count = 0


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """When a provider did what for a request: Unix time in seconds, by its own clock."""

    received: UnixTime
    #: Read, opened and tokenised, it was handed to the engine.
    submitted: UnixTime
    first_token: UnixTime
    last_token: UnixTime


class Finished(msgspec.Struct, frozen=True, tag="finished", omit_defaults=True):
    """Every choice has finished. `usage` counts the prompt once, however many choices."""

    usage: Usage
    #: Called `stages` on the wire.
    timings: Timings | None = msgspec.field(name="stages", default=None)


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    error: ErrorInfo


AnswerPart = Chunk | Finished | Failed
