"""Requests on their way: from a provider's link to whoever waits, sealed and within bounds.

Chunks and grants are `protocol.ReceiveWindow`'s to count; the provider's `SendWindow` is the other
end. A provider that sends more than it may, or out of order, breaks the protocol.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Self

import msgspec

from tandem.coordinator.fleet.link import ProviderLink
from tandem.coordinator.requests.answer_rules import AnswerCheck, Expected
from tandem.coordinator.requests.memory import memory_of_answer
from tandem.errors import AnswerNotRead, TandemError
from tandem.protocol import (
    Chunk,
    Delta,
    Failed,
    Finished,
    Grant,
    ModelName,
    ReceiveWindow,
    RequestId,
    Timings,
    Usage,
    Work,
    decode_answer_part,
    encode_padded,
)
from tandem.runtime import new_id
from tandem.security import ReplyChannel, new_reply_key


class RequestStream:
    """One request at one provider, as an async iterator of batches of deltas.

    Iteration ends after the last choice has finished, and `usage` is set then; it raises the
    request's error otherwise. `close` cancels at the provider what still runs.
    """

    def __init__(
        self,
        link: ProviderLink,
        request_id: RequestId,
        expected: Expected,
        window: int,
        replies: ReplyChannel,
        keep: Callable[[int], None],
    ) -> None:
        self.usage: Usage | None = None
        #: When it was sealed and when its end came, in Unix time; the provider's own times.
        self.sealed = 0.0
        self.answered = 0.0
        self.timings: Timings | None = None
        #: How many chunks have come that brought something new.
        self.steps = 0
        self._check = AnswerCheck(expected)
        self._link = link
        self._replies = replies
        self._request_id = request_id
        self._window = ReceiveWindow(window)
        self._keep = keep
        #: Bytes that wait to be taken; when they were too many, nothing waits any more.
        self._kept = 0
        self._overrun: AnswerNotRead | None = None
        self._error: TandemError | None = None
        self._news = asyncio.Event()

    @property
    def prompt_tokens(self) -> int:
        """Known from the first chunk on; 0 before."""
        return self._check.prompt_tokens

    @property
    def ended(self) -> bool:
        """Whether the provider has nothing more to say about this request."""
        return self.usage is not None or self._error is not None

    @property
    def is_dry(self) -> bool:
        """Whether the provider is to say something: it has not ended, and all of it was taken."""
        return not self._window and not self.ended

    def close(self) -> None:
        self._link.forget(self._request_id, cancel=not self.ended)
        self._give_back()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Delta]:
        while not self._window:
            if (error := self._overrun or self._error) is not None:
                raise error
            if self.usage is not None:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        deltas, granted = self._window.take()
        if self._window:
            await asyncio.sleep(0)  # there is more, and others have their turn meanwhile
        else:
            self._give_back()
        if granted and not self.ended:
            self._link.send(Grant(self._request_id, granted))
        return deltas

    def take(self, sealed: bytes) -> None:
        """Called as answers arrive. Raises ProtocolError for one that breaks the rules."""
        answer = decode_answer_part(self._replies.open(sealed))
        if isinstance(answer, Chunk):
            self._add(answer)
        elif isinstance(answer, Finished):
            self._finish(answer)
        else:
            assert isinstance(answer, Failed)
            self.fail(answer.error.to_error())
        self._news.set()

    def fail(self, error: TandemError) -> None:
        if not self.ended:
            self._error = error
            self._news.set()

    def _add(self, chunk: Chunk) -> None:
        """Raises ProtocolError for a chunk without credit, or one that lies."""
        self.steps += self._check.chunk(chunk)
        self._window.add(chunk.deltas)
        if chunk.deltas:
            self._hold(memory_of_answer(chunk.deltas))

    def _hold(self, size: int) -> None:
        """What a consumer does not read is dropped when it may hold no more."""
        try:
            self._keep(size)
        except TandemError as error:
            self._overrun = AnswerNotRead(f"more of the answer waits than may: {error.message}")
        else:
            self._kept += size
        if self._overrun is not None:
            self._window.drop()
            self._give_back()

    def _give_back(self) -> None:
        self._keep(-self._kept)
        self._kept = 0

    def _finish(self, answer: Finished) -> None:
        """Raises ProtocolError when a choice has not finished, or the usage cannot be true."""
        self._check.finished(answer)
        self.usage = answer.usage
        self.timings = answer.timings
        self.answered = time.time()


def open_stream(
    link: ProviderLink,
    model: ModelName,
    work: Work,
    *,
    expected: Expected,
    deadline_s: float,
    window: int,
    keep: Callable[[int], None] = lambda _: None,
) -> RequestStream:
    """Sends a request, under a new id: what an earlier attempt may still send means nothing now.

    `expected` is what can be answered to it. `keep` is told how many bytes more wait to be taken,
    or fewer; it raises a TandemError when they are too many, and then all that waits is dropped.
    Raises ProviderLost, or Overloaded when the provider does not read what it is sent.
    """
    request_id, key = RequestId(new_id()), new_reply_key()
    stream = RequestStream(link, request_id, expected, window, ReplyChannel(key, request_id), keep)
    encoded = encode_padded(msgspec.structs.replace(work, reply_key=key))
    link.request(request_id, encoded, stream, model=model, deadline_s=deadline_s, window=window)
    stream.sealed = time.time()
    return stream
