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
        self._prompt_tokens = 0

    @property
    def unfinished(self) -> set[int]:
        """The choices that still run."""
        return set(self._unfinished)

    @property
    def complete(self) -> bool:
        """Whether every choice has finished; of none nobody can tell."""
        return bool(self._tokens) and not self._unfinished

    def add(self, deltas: Iterable[Delta], *, prompt_tokens: int) -> None:
        """`prompt_tokens` is what the provider says of the prompts, 0 when it has said nothing."""
        self._prompt_tokens = self._prompt_tokens or prompt_tokens
        for delta in deltas:
            self._tokens[delta.index] += delta.token_ids
            self.tokens += len(delta.token_ids)
            if delta.finish is not None:
                self._unfinished.discard(delta.index)

    def usage(self, said: Usage | None = None) -> Usage:
        """What was delivered. `said` is the last provider's own: of its prompt and cache alone."""
        if said is None:
            return Usage(self._prompt_tokens, self.tokens, 0)
        return Usage(said.prompt_tokens, self.tokens, min(said.cached_tokens, said.prompt_tokens))

    def so_far(self) -> list[list[int] | None]:
        """As `Generate.produced`: empty when nothing has come yet."""
        if not self.tokens and len(self._unfinished) == len(self._tokens):
            return []
        return [
            list(tokens) if index in self._unfinished else None
            for index, tokens in enumerate(self._tokens)
        ]
