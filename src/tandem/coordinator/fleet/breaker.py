"""A circuit breaker for one provider: set aside when it fails, probed back, one request at a time.

What counts: a lost connection, a hang, a failed step is a fault; a token, and an answer's end, is a
success; "busy", "draining" and a consumer's own mistake say nothing. (Nygard, Release It!, 2007.)
"""

from __future__ import annotations

_FAULTS_TO_OPEN = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
#: Machines whose failures are remembered while they are away.
_MAX_REMEMBERED = 16_384


class Breaker:
    """Times are the caller's monotonic seconds."""

    def __init__(self) -> None:
        self._faults = 0
        self._pause_s = 0.0
        self._closed_until = 0.0
        self._probe: int | None = None
        self._generation = 0

    @property
    def is_open(self) -> bool:
        """Whether it is set aside, probes included."""
        return self._pause_s > 0.0

    def admits(self, now: float) -> bool:
        """Whether a request may go there: all when sound, one probe after each pause."""
        return not self.is_open or (now >= self._closed_until and self._probe is None)

    def begin(self) -> int:
        """A request was sent: its ticket, to be handed back with the outcome."""
        self._generation += 1
        if self.is_open:
            self._probe = self._generation
        return self._generation

    def succeed(self, ticket: int) -> None:
        """The provider answered. Only a probe's answer brings back one that was set aside."""
        if not self.is_open or ticket == self._probe:
            self._faults, self._pause_s, self._probe = 0, 0.0, None

    def fault(self, ticket: int, now: float) -> None:
        self._faults += 1
        if ticket == self._probe or (not self.is_open and self._faults >= _FAULTS_TO_OPEN):
            self.trip(now)

    def trip(self, now: float) -> None:
        """Sets the provider aside, for longer each time that it has not come back meanwhile."""
        self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2.0 or _FIRST_PAUSE_S)
        self._closed_until = now + self._pause_s
        self._probe = None

    def forget(self, ticket: int) -> None:
        """The request ended without telling anything: another may probe."""
        if ticket == self._probe:
            self._probe = None


class BreakerMemory:
    """The breakers of machines that may come back: they have their failures with them."""

    def __init__(self) -> None:
        self._breakers: dict[str, Breaker] = {}

    def of(self, machine: str) -> Breaker:
        """The machine's own, or a new one. `machine` is its node id, or else what it is called."""
        breaker = self._breakers.pop(machine, None) or Breaker()
        self._breakers[machine] = breaker  # the newest last
        while len(self._breakers) > _MAX_REMEMBERED:
            del self._breakers[next(iter(self._breakers))]
        return breaker
