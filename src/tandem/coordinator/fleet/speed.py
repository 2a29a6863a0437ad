"""How fast a provider runs a model, as the coordinator sees it: decayed sums of what was measured.

Decoding slows down as a batch grows, though by far less than in proportion. A step of k sequences
is taken to last 1 + (k - 1) / 8 times a step of one, so that what was measured at one load says
something about another.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What a new observation leaves of the old ones: about the last ten count.
_DECAY = 0.9
_BATCH_SLOPE = 1.0 / 8.0
#: Tokens a second that no machine is believed to exceed: times are the coordinator's, but how many
#: tokens there were a provider says, and one that lies must not draw all requests by it.
FASTEST_PREFILL_PER_S, FASTEST_DECODE_PER_S = 100_000.0, 1_000.0


@dataclass
class _Rate:
    """Units a second, from decayed sums: long observations weigh more than short ones."""

    units: float = 0.0
    seconds: float = 0.0

    def observe(self, units: float, seconds: float) -> None:
        self.units = self.units * _DECAY + units
        self.seconds = self.seconds * _DECAY + seconds

    def get(self, default: float) -> float:
        return self.units / self.seconds if self.seconds > 0.0 else default


class Speed:
    """Of one model at one provider. Until something is measured, an ordinary machine's figures."""

    _PREFILL, _DECODE = 500.0, 10.0

    def __init__(self) -> None:
        self._prefill = _Rate()
        self._decode = _Rate()

    @property
    def prefill_per_s(self) -> float:
        """Prompt tokens a second."""
        return self._prefill.get(self._PREFILL)

    def decode_per_s(self, sequences: int) -> float:
        """Tokens a second of each of so many sequences."""
        return self._decode.get(self._DECODE) / _slowdown(sequences)

    def saw_first_token(self, tokens: int, seconds: float) -> None:
        """So many prompt tokens, those that were ahead included, took so long."""
        if tokens > 0 and seconds > 0.0:
            self._prefill.observe(tokens, max(seconds, tokens / FASTEST_PREFILL_PER_S))

    def saw_decode(self, tokens: float, seconds: float, sequences: int) -> None:
        """Each of so many sequences got `tokens` tokens in so long."""
        if tokens > 0 and seconds > 0.0:
            taken_s = max(seconds, tokens / FASTEST_DECODE_PER_S)
            self._decode.observe(tokens * _slowdown(sequences), taken_s)


def _slowdown(sequences: int) -> float:
    return 1.0 + (max(1, sequences) - 1) * _BATCH_SLOPE
