"""What a request delivers, taken from what its key has left before it is delivered.

The coordinator counts: neither an estimate that was too low, nor requests that run at once, nor a
provider's word lets a key have more than its budget.
"""

from __future__ import annotations

from typing import Protocol

from tandem.coordinator.requests.produced import Produced
from tandem.errors import BudgetExhausted
from tandem.protocol import Delta


class Allowance(Protocol):
    """What a key may still use: `accounts.limits.Lease`."""

    @property
    def left(self) -> int | None:
        """Tokens; None when there is no end to them."""

    def take(self, tokens: int) -> bool:
        """Uses so many more; False, and none is used, when there are not so many left."""


class Meter:
    """One request's. `exhausted` once something could not be delivered: the request ends there."""

    def __init__(self, allowance: Allowance | None) -> None:
        self.exhausted = False
        self._allowance = allowance
        self._prompt_taken = False

    def take_prompt(self, tokens: int) -> None:
        """What a provider counts in the prompts, which is paid once.

        Raises BudgetExhausted when they alone are too much.
        """
        if self._allowance is None or self._prompt_taken:
            return
        left = self._allowance.left
        if not self._allowance.take(tokens):
            raise BudgetExhausted(
                f"the prompt has {tokens} tokens, and this key has {left} left: send less, or ask"
                " for a larger budget"
            )
        self._prompt_taken = True

    def deliverable(self, deltas: list[Delta]) -> list[Delta]:
        """Those that the key has tokens left for, in order."""
        if self._allowance is None:
            return deltas
        kept: list[Delta] = []
        for delta in deltas:
            if self.exhausted or not self._allowance.take(len(delta.token_ids)):
                self.exhausted = True
            else:
                kept.append(delta)
        return kept

    def most_output(self, asked: int | None, produced: Produced, prompt_tokens: int) -> int | None:
        """How many tokens a provider is asked for in each choice: no more than there are left.

        `prompt_tokens` is what the prompts are expected to take. A request that names no limit
        keeps to the model's: what it gets is cut all the same.
        """
        left = None if self._allowance is None else self._allowance.left
        if asked is None or left is None or not produced.unfinished:
            return asked
        left -= 0 if self._prompt_taken else prompt_tokens
        each = max(1, left // len(produced.unfinished))
        return min(asked, max(map(produced.of, produced.unfinished)) + each)
