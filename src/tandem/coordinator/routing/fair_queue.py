"""A bounded queue that is fair between the keys that use it: whoever has had least is next.

What each key has had stands in its `Share`; requests of one key keep their order. So over any time
two keys that keep the queue busy get the same number of tokens, but for what they have under way at
once, however many requests they send and however wrong the estimates are. Every call takes
O(log n) steps, whatever the requests cost.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Generic, TypeVar

from tandem.coordinator.routing.shares import Share

T = TypeVar("T")

#: Outdated entries that the heap may hold beside one for each key.
_SLACK = 16


class QueueFull(Exception):
    """The queue is full, and no other key takes more of it than the one that asks."""


class _Line(Generic[T]):
    """What waits of one key. Its newest `place` in the heap is the one that counts."""

    def __init__(self, key: str, share: Share) -> None:
        self.key = key
        self.share = share
        self.items: OrderedDict[T, None] = OrderedDict()
        self.place = (0, 0)

    @property
    def first(self) -> T:
        return next(iter(self.items))


class FairQueue(Generic[T]):
    """Items are told apart by `==`. `level` is what newcomers are lifted to at first."""

    def __init__(self, limit: int, level: int = 0) -> None:
        self._limit = limit
        self._level = level
        self._ahead: OrderedDict[T, Share] = OrderedDict()
        self._lines: dict[str, _Line[T]] = {}
        self._heap: list[tuple[int, int, _Line[T]]] = []
        self._entered = 0
        self._size = 0
        self._lengths = _Lengths()

    def __len__(self) -> int:
        return self._size + len(self._ahead)

    @property
    def keys(self) -> int:
        """How many keys have something in their line."""
        return len(self._lines)

    def push(self, key: str, share: Share, item: T) -> T | None:
        """Queues an item behind the others of its key.

        A full queue makes room by giving up the newest item of the key with most in it, which is
        returned. Raises QueueFull when that is the very key that asks.
        """
        evicted = self._evict(key) if self._size >= self._limit else None
        line = self._lines.get(key)
        if line is None:
            share.lift(self._level)
            line = self._lines[key] = _Line(key, share)
            share.on_less[self] = lambda: self._enter(line)
            self._enter(line)
        line.items[item] = None
        self._size += 1
        self._lengths.grown(key, len(line.items))
        return evicted

    def push_ahead(self, share: Share, item: T) -> None:
        """Queues an item before all lines, behind those that came so. The limit is not for it."""
        self._ahead[item] = share

    def heads(self, most: int) -> list[tuple[Share, T]]:
        """Those whose turn it is, at most one a key but for those ahead; the first is next."""
        found = [(share, item) for item, share in _first(self._ahead, most)]
        entries = []
        while len(found) < most and self._settle_top():
            entries.append(heapq.heappop(self._heap))
            line = entries[-1][2]
            found.append((line.share, line.first))
        for entry in entries:
            heapq.heappush(self._heap, entry)
        return found

    def take(self, key: str, item: T) -> None:
        """Takes out an item that gets its place now; newcomers begin where its key was."""
        line = self._lines.get(key)
        if line is not None and item in line.items:
            self._level = max(self._level, line.share.used)
        self.discard(key, item)

    def discard(self, key: str, item: T) -> bool:
        """Takes an item out of turn; whether it was there."""
        if item in self._ahead:
            del self._ahead[item]
            return True
        line = self._lines.get(key)
        if line is None or item not in line.items:
            return False
        self._remove(line, item)
        return True

    def items(self) -> list[T]:
        """All that wait, in no particular order."""
        return [*self._ahead, *(item for line in self._lines.values() for item in line.items)]

    def _remove(self, line: _Line[T], item: T) -> None:
        del line.items[item]
        self._size -= 1
        self._lengths.shrunk(line.key, len(line.items))
        if not line.items:
            del self._lines[line.key]
            del line.share.on_less[self]

    def _enter(self, line: _Line[T]) -> None:
        """Gives a line its place in the heap, in place of any that it has."""
        if len(self._heap) > 2 * len(self._lines) + _SLACK:
            self._heap = [entry for entry in self._heap if self._counts(entry)]
            heapq.heapify(self._heap)
        self._entered += 1
        line.place = (line.share.used, self._entered)
        heapq.heappush(self._heap, (*line.place, line))

    def _counts(self, entry: tuple[int, int, _Line[T]]) -> bool:
        used, entered, line = entry
        return line.place == (used, entered) and self._lines.get(line.key) is line

    def _settle_top(self) -> bool:
        """Whether the heap's top is a line whose turn it is; it is made so if there is any."""
        while self._heap:
            entry = self._heap[0]
            if not self._counts(entry):
                heapq.heappop(self._heap)
            elif entry[0] != entry[2].share.used:
                heapq.heappop(self._heap)  # it has had more meanwhile
                self._enter(entry[2])
            else:
                return True
        return False

    def _evict(self, key: str) -> T:
        own = len(self._lines[key].items) if key in self._lines else 0
        longest = self._lengths.longest()
        if longest is None or longest[1] <= own + 1:
            raise QueueFull
        line = self._lines[longest[0]]
        item = next(reversed(line.items))
        self._remove(line, item)
        return item


class _Lengths:
    """Which key's line is longest, kept up to date in O(1): lengths change by one."""

    def __init__(self) -> None:
        self._keys: dict[int, OrderedDict[str, None]] = {}
        self._longest = 0

    def longest(self) -> tuple[str, int] | None:
        if not self._longest:
            return None
        return next(iter(self._keys[self._longest])), self._longest

    def grown(self, key: str, length: int) -> None:
        self._leave(key, length - 1)
        self._join(key, length)
        self._longest = max(self._longest, length)

    def shrunk(self, key: str, length: int) -> None:
        self._leave(key, length + 1)
        self._join(key, length)
        if self._longest not in self._keys:
            self._longest -= 1

    def _join(self, key: str, length: int) -> None:
        if length:
            self._keys.setdefault(length, OrderedDict())[key] = None

    def _leave(self, key: str, length: int) -> None:
        if length:
            del self._keys[length][key]
            if not self._keys[length]:
                del self._keys[length]


def _first(items: OrderedDict[T, Share], most: int) -> list[tuple[T, Share]]:
    return [pair for _, pair in zip(range(most), items.items(), strict=False)]
