"""Token ids to text, as they come: never half a character, never part of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"

#: Half characters resolve within four bytes; a longer run of U+FFFD is the text itself.
_MAX_HELD_TOKENS = 8


class StreamDetokenizer:
    """Emits text once further tokens cannot change it.

    Tokens are decoded together with the few before them, because decoders join neighbours (a
    leading space, bytes of one character); only the difference is emitted.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []  # tokens still needed as context, then those not yet emitted
        self._emitted = 0  # how many of the window are emitted

    def feed(self, token: int) -> str:
        """The text that `token` completes; empty while a character is unfinished."""
        self._window.append(token)
        before, text = self._decode(self._window[: self._emitted]), self._decode(self._window)
        held = len(self._window) - self._emitted
        if text.endswith(_REPLACEMENT) and held < _MAX_HELD_TOKENS:
            return ""
        self._window = self._window[self._emitted :]
        self._emitted = len(self._window)
        return text[len(before) :]

    def flush(self) -> str:
        """What is held back: an unfinished character shows as U+FFFD, as in a whole decode."""
        before, text = self._decode(self._window[: self._emitted]), self._decode(self._window)
        self._emitted = len(self._window)
        return text[len(before) :]


class StopMatcher:
    """Cuts text before the first stop string; holds back what might be the start of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
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
        longest = max(map(len, self._stops), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
