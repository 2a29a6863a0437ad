"""What travels sealed between coordinator and provider: prompts one way, tokens the other."""

from __future__ import annotations

import msgspec

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


class Chunk(msgspec.Struct, frozen=True, tag="chunk", omit_defaults=True):
    """`prompt_tokens` comes with the first, so that a stream that breaks can be accounted for."""

    deltas: list[Delta]
    prompt_tokens: int = 0


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """When a provider did what for a request: Unix time in seconds, by its own clock."""

    received: float
    #: Read, opened and tokenised, it was handed to the engine.
    submitted: float
    first_token: float
    last_token: float


class Finished(msgspec.Struct, frozen=True, tag="finished", omit_defaults=True):
    """Every choice has finished. `usage` counts the prompt once, however many choices."""

    usage: Usage
    #: Called `stages` on the wire.
    timings: Timings | None = msgspec.field(name="stages", default=None)


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    error: ErrorInfo


AnswerPart = Chunk | Finished | Failed
