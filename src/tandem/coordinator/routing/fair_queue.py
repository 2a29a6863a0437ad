"""A bounded queue that is fair between the keys that use it: deficit round robin.

Each key with something waiting has its turn, and in a turn may spend `quantum` tokens more than it
has left; what it saves it keeps for the next turn, as long as it has something waiting (Shreedhar
and Varghese, SIGCOMM 1995). So over any time two keys that keep the queue busy get the same
number of tokens, but for a quantum and one request, however many requests each of them sends.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


class QueueFull(Exception):
    """The queue is full, and no other key takes more of it than the one that asks."""


@dataclass
class _Line(Generic[T]):
    waiting: deque[tuple[T, int]] = field(default_factory=deque)
    deficit: int = 0


class FairQueue(Generic[T]):
    def __init__(self, limit: int, quantum: int = 256) -> None:
        self._limit = limit
        self._quantum = quantum
        self._lines: OrderedDict[str, _Line[T]] = OrderedDict()  # the first has its turn
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, key: str, item: T, cost: int) -> T | None:
        """Queues an item of so many tokens behind the others of its key.

        A full queue makes room by giving up the newest item of the key with most in it, which is
        returned. Raises QueueFull when that is the very key that asks.
        """
        evicted = self._evict(key) if self._size >= self._limit else None
        self._lines.setdefault(key, _Line()).waiting.append((item, max(1, cost)))
        self._size += 1
        return evicted

    def peek(self) -> T | None:
        """The item whose turn it is; spends nothing yet."""
        while self._lines:
            line = next(iter(self._lines.values()))
            item, cost = line.waiting[0]
            if line.deficit >= cost:
                return item
            self._lines.move_to_end(next(iter(self._lines)))  # its turn is over
            next(iter(self._lines.values())).deficit += self._quantum
        return None

    def pop(self) -> T:
        """Takes the item that `peek` has just shown."""
        key, line = next(iter(self._lines.items()))
        item, cost = line.waiting.popleft()
        line.deficit -= cost
        self._shrink(key, line)
        return item

    def discard(self, key: str, item: T) -> bool:
        """Takes an item out of turn, at no cost; whether it was there."""
        line = self._lines.get(key)
        if line is None:
            return False
        for entry in line.waiting:
            if entry[0] is item:
                line.waiting.remove(entry)
                self._shrink(key, line)
                return True
        return False

    def _shrink(self, key: str, line: _Line[T]) -> None:
        self._size -= 1
        if not line.waiting:
            del self._lines[key]  # a key that comes back later has saved nothing

    def _evict(self, key: str) -> T:
        own = len(self._lines[key].waiting) if key in self._lines else 0
        longest, line = max(self._lines.items(), key=lambda entry: len(entry[1].waiting))
        if len(line.waiting) <= own + 1:
            raise QueueFull
        item, _ = line.waiting.pop()
        self._shrink(longest, line)
        return item
