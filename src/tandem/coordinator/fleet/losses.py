"""Which providers were lost lately, and what was being begun there at that moment.

A request that is being begun where a provider dies may be what it died of. Whether it was, the
other losses of the same minutes tell: `requests.suspicion` asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

import msgspec

from tandem.protocol import ProviderId

#: What happens to one provider within this long is one loss, and to several is nobody's doing.
_AT_ONCE_S = 1.0
_REMEMBERED_S, _MAX_REMEMBERED = 300.0, 1024


class Loss(msgspec.Struct, frozen=True):
    """A provider that died, hung, or failed a step, at a time of monotonic seconds.

    `beginning` requests had been sent there and had no token yet. `lived_s` is how long it had been
    ready. `fatal`: it was gone, and had been sound until then.
    """

    at: float
    provider: ProviderId
    beginning: int
    lived_s: float = 0.0
    fatal: bool = True


class Losses:
    """Those of the last minutes."""

    def __init__(self) -> None:
        self._losses: deque[Loss] = deque(maxlen=_MAX_REMEMBERED)

    def note(self, loss: Loss) -> None:
        """Before anything of what was under way there is taken off the provider's counts."""
        while self._losses and self._losses[0].at < loss.at - _REMEMBERED_S:
            self._losses.popleft()
        last = self.of(loss.provider)
        if last is None:
            self._losses.append(loss)
        elif loss.at - last.at > _AT_ONCE_S:
            self._losses.append(msgspec.structs.replace(loss, fatal=False))

    def of(self, provider: ProviderId) -> Loss | None:
        """A provider's last one."""
        return next((loss for loss in reversed(self._losses) if loss.provider == provider), None)

    def since(self, at: float) -> list[Loss]:
        return [loss for loss in self._losses if loss.at > at]

    def coincided(self, loss: Loss, but: Collection[Loss]) -> bool:
        """Whether others were lost with it: a cable, a switch, a power cut, somebody's script.

        `but` these: what kills fast kills two within a moment.
        """
        return any(
            abs(other.at - loss.at) <= _AT_ONCE_S and other not in but and other != loss
            for other in self._losses
        )
