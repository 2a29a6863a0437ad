"""One answer, received to its end: what `run` and `chat` share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from time import monotonic

import msgspec

from tandem.client.api import ChatRequest, Client, Usage


class ChatResult(msgspec.Struct, frozen=True):
    """A whole answer and how long it took. `interrupted` answers hold what came until then."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    first_token_s: float | None
    total_s: float
    interrupted: bool = False


def receive(
    client: Client,
    request: ChatRequest,
    *,
    on_text: Callable[[str], None],
    clock: Callable[[], float] = monotonic,
) -> ChatResult:
    """Runs the request; `on_text` gets every piece of text. Ctrl-C ends it early, as an answer."""
    started = clock()
    pieces: list[str] = []
    finish_reason: str | None = None
    usage: Usage | None = None
    first_token_s: float | None = None
    interrupted = False
    try:
        with closing(client.stream_chat(request)) as chunks:
            for chunk in chunks:
                if chunk.text:
                    if first_token_s is None:
                        first_token_s = clock() - started
                    pieces.append(chunk.text)
                    on_text(chunk.text)
                finish_reason = chunk.finish_reason or finish_reason
                usage = chunk.usage or usage
    except KeyboardInterrupt:
        interrupted = True
    return ChatResult(
        text="".join(pieces),
        finish_reason=finish_reason,
        usage=usage,
        first_token_s=first_token_s,
        total_s=clock() - started,
        interrupted=interrupted,
    )
