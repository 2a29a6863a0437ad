"""How many bytes requests hold in this process, bounded for each consumer and in all.

A body counts as it comes in, what was decoded from it until its request ends, and what is kept of
the answer until then. So memory is bounded whatever is sent, by however many connections.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.errors import Overloaded, RateLimited
from tandem.protocol import ChatPrompt, Delta, Prompt, TextPrompt

_MIB = 1024 * 1024
#: Of CPython, 64 bits, each with its place in a list: a message or a prompt, a token id, a log
#: probability with its token.
_STRUCT_BYTES = 120
_TOKEN_BYTES = 40
_LOGPROB_BYTES = 256
#: One part in so many is left for the answers to what was let in.
_ANSWERS_SHARE = 5
#: Answers are counted in steps, since they come token by token.
_STEP_BYTES = 64 * 1024


class HeldBytes:
    """`most` in all, `most_each` for one consumer."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._all = 0
        self._of: dict[str, int] = {}

    @property
    def all(self) -> int:
        return self._all

    def hold(self, consumer: str) -> Held:
        """For one request of a consumer, nothing yet."""
        return Held(self, consumer)

    def check(self, consumer: str, more: int, *, answer: bool = False) -> None:
        """Raises RateLimited or Overloaded unless there is room for so many more."""
        if self._of.get(consumer, 0) + more > _room(self._most_each, answer=answer):
            raise RateLimited(
                f"your requests under way hold {self._most_each // _MIB} MiB, which is the limit:"
                " retry when one of them has ended"
            )
        if self._all + more > _room(self._most, answer=answer):
            raise Overloaded(
                f"all requests under way hold {self._most // _MIB} MiB, which is the limit"
            )

    def add(self, consumer: str, more: int, *, answer: bool = False) -> None:
        """Raises as `check` does; gives back when `more` is negative."""
        if more > 0:
            self.check(consumer, more, answer=answer)
        self._all += more
        left = self._of.get(consumer, 0) + more
        if left:
            self._of[consumer] = left
        else:
            self._of.pop(consumer, None)


def _room(most: int, *, answer: bool) -> int:
    return most if answer else most - most // _ANSWERS_SHARE


class Held:
    """What one request holds; leaving the context gives it back."""

    def __init__(self, held: HeldBytes, consumer: str) -> None:
        self._held = held
        self._consumer = consumer
        self._size = 0
        self._uncounted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.resize(0)

    def check(self, size: int) -> None:
        """Raises RateLimited or Overloaded unless it could hold so much now."""
        self._held.check(self._consumer, size - self._size)

    def resize(self, size: int) -> None:
        """Holds so much from now on. Raises RateLimited or Overloaded, and changes nothing then."""
        self._held.add(self._consumer, size - self._size)
        self._size = size

    def grow(self, more: int) -> None:
        """Of its answer so much more is kept. Raises RateLimited or Overloaded."""
        self._uncounted += more
        if self._uncounted >= _STEP_BYTES:
            self._held.add(self._consumer, self._uncounted, answer=True)
            self._size += self._uncounted
            self._uncounted = 0


def memory_of(request: InferenceRequest) -> int:
    """What the prompts of a request take, in bytes: a text has up to four a character."""
    return sum(map(_memory_of, request.task.prompts))


def _memory_of(prompt: Prompt) -> int:
    if isinstance(prompt, ChatPrompt):
        texts = sum(sys.getsizeof(message.content) for message in prompt.messages)
        return texts + _STRUCT_BYTES * len(prompt.messages)
    if isinstance(prompt, TextPrompt):
        return sys.getsizeof(prompt.text) + _STRUCT_BYTES
    return _TOKEN_BYTES * len(prompt.token_ids) + _STRUCT_BYTES


def memory_of_tokens(deltas: Iterable[Delta]) -> int:
    """What their token ids take, which are kept to go on elsewhere."""
    return sum(_TOKEN_BYTES * len(delta.token_ids) for delta in deltas)


def memory_of_answer(deltas: Iterable[Delta]) -> int:
    """What all of them takes, kept until an answer is whole."""
    return sum(_memory_of_delta(delta) for delta in deltas)


def _memory_of_delta(delta: Delta) -> int:
    logprobs = sum(_LOGPROB_BYTES * (1 + len(entry.top)) for entry in delta.logprobs or ())
    return sys.getsizeof(delta.text) + _TOKEN_BYTES * len(delta.token_ids) + logprobs
