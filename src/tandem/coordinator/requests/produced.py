"""What a request has brought forth so far: enough for `run` to go on at another provider."""

from __future__ import annotations

from collections.abc import Iterable

from tandem.protocol import Delta, Usage


class Produced:
    """The tokens of each choice that were handed on to the consumer."""

    def __init__(self, choices: int) -> None:
        self._tokens: list[list[int]] = [[] for _ in range(choices)]
        self._unfinished = set(range(choices))
        #: Of all choices together: the usage's completion tokens.
        self.tokens = 0
        self.prompt_tokens = 0

    @property
    def unfinished(self) -> set[int]:
        """The choices that still run."""
        return set(self._unfinished)

    @property
    def complete(self) -> bool:
        """Whether every choice has finished; of none nobody can tell."""
        return bool(self._tokens) and not self._unfinished

    def has_ended(self, turn: frozenset[int]) -> bool:
        """Whether all choices of a turn have finished; of none nobody can tell."""
        return bool(turn) and not turn & self._unfinished

    def next_turn(self, most: int) -> frozenset[int]:
        """Choices to go on with, at most so many: those that have begun first."""
        order = sorted(self._unfinished, key=lambda index: (not self._tokens[index], index))
        return frozenset(order[:most])

    def of(self, index: int) -> int:
        """How many tokens a choice has."""
        return len(self._tokens[index])

    def saw_prompt(self, tokens: int) -> bool:
        """A provider says how many tokens the prompts have; whether others said the same.

        Who is wrong cannot be told from here, so the consumer pays for the fewer.
        """
        before = self.prompt_tokens
        self.prompt_tokens = min(before or tokens, tokens)
        return before in {0, tokens}

    def add(self, deltas: Iterable[Delta]) -> None:
        for delta in deltas:
            self._tokens[delta.index] += delta.token_ids
            self.tokens += len(delta.token_ids)
            if delta.finish is not None:
                self._unfinished.discard(delta.index)

    def usage(self, said: Usage | None = None) -> Usage:
        """What was delivered. `said` is the last provider's own: its cache is for it to tell."""
        cached = 0 if said is None else min(said.cached_tokens, self.prompt_tokens)
        return Usage(self.prompt_tokens, self.tokens, cached)

    def so_far(self, turn: frozenset[int]) -> list[list[int] | None]:
        """As `Generate.produced`, for a turn: empty when it is all choices from the start."""
        if not self.tokens and len(turn) == len(self._tokens):
            return []
        return [
            list(tokens) if index in turn else None for index, tokens in enumerate(self._tokens)
        ]
