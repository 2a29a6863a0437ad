"""Flow control of one request, both ends: credit in chunks, and deltas joined where there is none.

A provider may have so many chunks under way that were not granted back, its *window*. What neither
end can pass on just now is joined, one delta a choice, so that whoever lags gets bigger pieces
rather than more of them, and nothing grows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tandem.errors import ProtocolError
from tandem.protocol.common import TokenLogprob, TopLogprob
from tandem.protocol.provider.sealed import Delta, join_deltas

#: In one piece: written for the consumer in some hundredths of a second, log probabilities and all.
_MOST_TOKENS = 256
#: The same in bytes, which a vocabulary of long tokens comes to sooner. What is added last may have
#: some 150 KB, the twenty likeliest tokens included: still far from `MAX_REPLY_BYTES`.
_MOST_BYTES = 256 * 1024
#: Of a token's id, or of a likely one's, beside its text.
_ID_BYTES, _ENTRY_BYTES = 5, 24


class _Pending(deque[Delta]):
    """Deltas that wait, in order. A deque: every token asks whether it is empty."""

    def take(self) -> list[Delta]:
        """What waits, one delta a choice: all of it, or of about so many tokens and bytes."""
        if len(self) == 1:
            return [self.popleft()]
        pieces: dict[int, list[Delta]] = {}
        tokens = size = 0
        while self and tokens < _MOST_TOKENS and size < _MOST_BYTES:
            delta = self.popleft()
            pieces.setdefault(delta.index, []).append(delta)
            tokens += max(1, len(delta.token_ids))
            size += _bytes_at_most(delta)
        return [join_deltas(deltas) for deltas in pieces.values()]


def _bytes_at_most(delta: Delta) -> int:
    size = 4 * len(delta.text) + _ID_BYTES * len(delta.token_ids)
    for entry in delta.logprobs or ():
        size += _entry_bytes(entry) + sum(map(_entry_bytes, entry.top))
    return size


def _entry_bytes(entry: TokenLogprob | TopLogprob) -> int:
    return 4 * len(entry.token) + len(entry.raw) + _ENTRY_BYTES


class SendWindow:
    """The provider's end: what may be sent now."""

    def __init__(self, window: int) -> None:
        self._credit = window
        self._pending = _Pending()

    @property
    def blocked(self) -> bool:
        """Whether something waits for a grant."""
        return bool(self._pending) and self._credit <= 0

    def add(self, deltas: Iterable[Delta]) -> None:
        self._pending.extend(deltas)

    def grant(self, chunks: int) -> None:
        self._credit += chunks

    def take_empty(self) -> bool:
        """Whether a chunk without deltas may go: it costs one credit, but never the last."""
        if self._credit <= 1:
            return False
        self._credit -= 1
        return True

    def take(self) -> list[Delta]:
        """What the next chunk holds, which costs one credit; empty when there is none to send."""
        if not self._pending or self._credit <= 0:
            return []
        self._credit -= 1
        return self._pending.take()


class ReceiveWindow:
    """The coordinator's end: what has come and was not taken yet, and what taking it grants."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._pending = _Pending()
        self._untaken = 0
        self._ungranted = 0

    def __bool__(self) -> bool:
        """Whether a chunk has come that was not taken, be it one without deltas."""
        return self._untaken > 0

    def add(self, deltas: Iterable[Delta]) -> None:
        """One chunk has come. Raises ProtocolError when it came without credit."""
        self._untaken += 1
        if self._untaken + self._ungranted > self._window:
            raise ProtocolError(f"more than {self._window} chunks came ungranted")
        self._pending.extend(deltas)

    def drop(self) -> None:
        """Forgets what has come and was not taken; it is still to be granted."""
        self._pending.clear()
        self._ungranted += self._untaken
        self._untaken = 0

    def take(self) -> tuple[list[Delta], int]:
        """What has come, and how many chunks to grant for it now. More than a piece stays.

        Half a window at a time: fewer messages, and the provider never runs dry.
        """
        taken = self._pending.take()
        if self._pending:
            return taken, 0
        self._ungranted += self._untaken
        self._untaken = 0
        granted = self._ungranted if self._ungranted >= self._window // 2 else 0
        self._ungranted -= granted
        return taken, granted
