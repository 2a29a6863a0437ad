"""How many bytes requests hold in this process, bounded for each consumer and in all.

A body counts as it comes in, and what was decoded from it until its request ends. So memory is
bounded whatever is sent, by however many connections.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.errors import Overloaded, RateLimited
from tandem.protocol import ChatPrompt, Prompt, TextPrompt

_MIB = 1024 * 1024
#: Of CPython, 64 bits: a message or a prompt with its place in a list, and a token id with its own.
_STRUCT_BYTES = 120
_TOKEN_BYTES = 40


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

    def check(self, consumer: str, more: int) -> None:
        """Raises RateLimited or Overloaded unless there is room for so many more."""
        if self._of.get(consumer, 0) + more > self._most_each:
            raise RateLimited(
                f"your requests under way hold {self._most_each // _MIB} MiB, which is the limit:"
                " retry when one of them has ended"
            )
        if self._all + more > self._most:
            raise Overloaded(
                f"all requests under way hold {self._most // _MIB} MiB, which is the limit"
            )

    def add(self, consumer: str, more: int) -> None:
        """Raises as `check` does; gives back when `more` is negative."""
        if more > 0:
            self.check(consumer, more)
        self._all += more
        left = self._of.get(consumer, 0) + more
        if left:
            self._of[consumer] = left
        else:
            self._of.pop(consumer, None)


class Held:
    """What one request holds; leaving the context gives it back."""

    def __init__(self, held: HeldBytes, consumer: str) -> None:
        self._held = held
        self._consumer = consumer
        self._size = 0

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
