"""Where stop strings end a text: what might be the start of one is held back."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Cuts text before the first stop string; holds back what might be the start of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._by_first: dict[str, list[str]] = {}
        for stop in stops:
            self._by_first.setdefault(stop[:1], []).append(stop)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The text that is safe to emit. Sets `stopped` when a stop string is complete."""
        text = self._held + text
        found = [index for index in map(text.find, self._stops) if index >= 0]
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
        """The longest suffix of `text` that a stop string begins with."""
        longest = 0
        for first, stops in self._by_first.items():
            if first not in text:
                continue
            for stop in stops:
                for size in range(min(len(stop) - 1, len(text)), longest, -1):
                    if stop.startswith(text[-size:]):
                        longest = size
                        break
        return longest
