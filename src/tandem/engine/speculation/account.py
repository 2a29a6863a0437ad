"""What guesses have won and cost, all told: so they end where they lose, whatever was expected.

Who guesses may be wrong about the chances, may have to read long prompts first, and tries again
what once was not worth it. Together that may cost no more than an account has: it begins with a
little, and earns a hundredth of every step and what guesses win.
"""

from __future__ import annotations

#: All in plain steps. What there is to try with, and the most that is saved.
_CREDIT, _MOST = 32.0, 128.0
_EARNED = 0.01


class Account:
    """In steps without guesses: their time tells what the tokens of a step would have cost."""

    def __init__(self) -> None:
        self._balance = _CREDIT

    @property
    def is_overdrawn(self) -> bool:
        return self._balance < 0.0

    def book(self, *, won: float, cost: float) -> None:
        """What one step has given and taken, as multiples of the same without guesses."""
        self._balance = min(_MOST, self._balance + _EARNED + won - cost)
