"""Where stop strings end a text: what might be the start of one is held back.

A request may have hundreds of long ones, and a token must not cost more for that. Among sorted
strings those that begin alike are neighbours, so one search finds whether any begins with a given
text; and, over the strings read backwards, whether any ends where the text ends.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable


class StopStrings:
    """A request's stop strings, sorted; its choices share them."""

    def __init__(self, stops: Iterable[str]) -> None:
        self._sorted = sorted(set(stops))
        self._backwards = sorted(stop[::-1] for stop in self._sorted)
        self._within = _within(self._backwards)
        self._first = {stop[0] for stop in self._sorted}
        self._last = {stop[-1] for stop in self._sorted}
        self.longest = max(map(len, self._sorted), default=0)

    def ending(self, text: str, end: int) -> int:
        """The length of the longest stop string that `text[:end]` ends with; 0 for none."""
        if text[end - 1] not in self._last:
            return 0
        backwards = text[max(0, end - self.longest) : end][::-1]
        # Whatever it begins with is its neighbour, or what that begins with.
        index = bisect_right(self._backwards, backwards) - 1
        while index >= 0 and not backwards.startswith(self._backwards[index]):
            index = self._within[index]
        return len(self._backwards[index]) if index >= 0 else 0

    def begin_with(self, text: str) -> bool:
        """Whether a stop string begins with `text`, which is not empty."""
        if text[0] not in self._first:
            return False
        index = bisect_left(self._sorted, text)
        return index < len(self._sorted) and self._sorted[index].startswith(text)


class StopMatcher:
    """Cuts text before the first stop string; holds back what might be the start of one."""

    def __init__(self, stops: StopStrings) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The text that is safe to emit. Sets `stopped` when a stop string is complete."""
        new, text = len(self._held) + 1, self._held + text
        found = [
            end - size
            for end in range(new, len(text) + 1)
            if (size := self._stops.ending(text, end))
        ]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = self._overlap(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The end came without a stop string: what was held back is text after all."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, text: str) -> int:
        """The longest suffix of `text` that a stop string begins with.

        What is tried in vain was held before: over a whole text a character is tried twice.
        """
        for size in range(min(self._stops.longest - 1, len(text)), 0, -1):
            if self._stops.begin_with(text[-size:]):
                return size
        return 0


def _within(sorted_strings: list[str]) -> list[int]:
    """For each of sorted strings the longest other one that it begins with; -1 for none."""
    found: list[int] = []
    open_ones: list[int] = []
    for index, string in enumerate(sorted_strings):
        while open_ones and not string.startswith(sorted_strings[open_ones[-1]]):
            open_ones.pop()
        found.append(open_ones[-1] if open_ones else -1)
        open_ones.append(index)
    return found
