"""How many bytes requests hold in this process, bounded for each consumer and in all.

A body counts as it comes in, what was decoded from it until its request ends, and what is kept of
the answer until then. So memory is bounded whatever is sent, by however many connections.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tandem.errors import Overloaded, RateLimited

_MIB = 1024 * 1024
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

    def keep(self, more: int) -> None:
        """Of its answer so much more is kept, or less. Raises RateLimited or Overloaded."""
        self._held.add(self._consumer, more, answer=True)
        self._size += more

    def grow(self, more: int) -> None:
        """As `keep`, for what comes token by token and stays: it is counted in steps."""
        self._uncounted += more
        if self._uncounted >= _STEP_BYTES:
            self.keep(self._uncounted)
            self._uncounted = 0
