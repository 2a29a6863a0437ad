"""Token ids to text, as they come, and never half a character."""

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
