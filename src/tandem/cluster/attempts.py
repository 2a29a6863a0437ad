"""When a plan that was refused is worth another attempt: when something has changed, else seldom.

Pure. Rank 0 asks, since it makes the plans; the others wait until it invites them.
"""

from __future__ import annotations

from collections.abc import Sequence

from tandem.cluster.members import Member
from tandem.security import NodeId

_FIRST_DELAY_S, _MAX_DELAY_S = 30.0, 600.0
#: Of a machine's memory: less is the coming and going of other programs.
_NOTICEABLE = 1 / 8

#: Of each node: which process it is, and the memory that it had to give.
_Facts = dict[NodeId, tuple[str, int]]


class Attempts:
    """Remembers who could not agree, as they were then."""

    def __init__(self) -> None:
        self._refused: _Facts = {}
        self._refused_at = 0.0
        self._delay_s = 0.0

    def refused(self, members: Sequence[Member], now: float) -> None:
        """`now` is monotonic, in seconds."""
        again = self._is_as_before(members)
        self._delay_s = min(2 * self._delay_s, _MAX_DELAY_S) if again else _FIRST_DELAY_S
        self._refused, self._refused_at = _facts(members), now

    def succeeded(self) -> None:
        self._refused = {}

    def delay_s(self, members: Sequence[Member], now: float) -> float:
        """How long to wait before these try again; 0 when there is no reason to wait."""
        if not self._is_as_before(members):
            return 0.0
        return max(0.0, self._refused_at + self._delay_s - now)

    def _is_as_before(self, members: Sequence[Member]) -> bool:
        facts = _facts(members)
        if not self._refused or facts.keys() != self._refused.keys():
            return False
        for node_id, (incarnation, memory) in facts.items():
            incarnation_then, memory_then = self._refused[node_id]
            changed = abs(memory - memory_then) > _NOTICEABLE * memory_then
            if incarnation != incarnation_then or changed:
                return False
        return True


def _facts(members: Sequence[Member]) -> _Facts:
    return {
        member.node_id: (member.hello.incarnation, member.hello.memory_bytes) for member in members
    }
