"""Flow control of one request, both ends: credit in chunks, and deltas joined where there is none.

A provider may have so many chunks under way that were not granted back, its *window*. What neither
end can pass on just now is joined, one delta a choice, so that whoever lags gets bigger pieces
rather than more of them, and nothing grows.
"""

from __future__ import annotations

from collections.abc import Iterable

from tandem.errors import ProtocolError
from tandem.protocol.provider.sealed import Delta, join_deltas


class _Pending(dict[int, Delta]):
    """Deltas that wait, at most one a choice. A dict: every token asks whether it is empty."""

    def add(self, deltas: Iterable[Delta]) -> None:
        for delta in deltas:
            old = self.get(delta.index)
            self[delta.index] = delta if old is None else join_deltas(old, delta)

    def take(self) -> list[Delta]:
        taken = list(self.values())
        self.clear()
        return taken


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
        self._pending.add(deltas)

    def grant(self, chunks: int) -> None:
        self._credit += chunks

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
        """Whether there is anything to take."""
        return bool(self._pending)

    def add(self, deltas: Iterable[Delta]) -> None:
        """One chunk has come. Raises ProtocolError when it came without credit."""
        self._untaken += 1
        if self._untaken + self._ungranted > self._window:
            raise ProtocolError(f"more than {self._window} chunks came ungranted")
        self._pending.add(deltas)

    def take(self) -> tuple[list[Delta], int]:
        """All that has come, and how many chunks to grant for it now.

        Half a window at a time: fewer messages, and the provider never runs dry.
        """
        self._ungranted += self._untaken
        self._untaken = 0
        granted = self._ungranted if self._ungranted >= self._window // 2 else 0
        self._ungranted -= granted
        return self._pending.take(), granted
