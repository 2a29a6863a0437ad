"""What a request needs of a provider. Plain data."""

from __future__ import annotations

import msgspec

from tandem.coordinator.accounts.records import DEFAULT_ACCOUNT
from tandem.protocol import ModelName, Trust


class Demand(msgspec.Struct, frozen=True):
    """What a request needs of a provider.

    `tokens` is the estimate of all that its sequences will hold in the cache together, of which
    `prompt_tokens` are prefilled once, `own_prompt` of them for each sequence alone;
    `least_tokens` is what one sequence surely needs, `least_prompt` of them for its prompt, which
    the consumer knows as `prompt_field`.
    `text_bytes` is text that one prompt surely has, and a model's longest token says how many
    tokens that makes at least.
    `prefixes` are digests of what its prompt begins with, the longest last, with their share of
    the prompt: a provider that has seen one has it in its cache.
    One that is `divisible` may begin with fewer of its sequences, and have the others later.
    `key` is whose turn it takes; it `leaves_room` where there are other keys.
    One that is to be `alone` goes where nothing else is being begun, and nothing is meanwhile.
    `account` is whose request it is, `owners` are the accounts whose machines may have it.
    """

    model: ModelName
    sequences: int = 1
    tokens: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    least_tokens: int = 0
    min_trust: Trust = Trust.NONE
    prefixes: list[tuple[bytes, float]] = []
    account: str = DEFAULT_ACCOUNT
    owners: frozenset[str] = frozenset({DEFAULT_ACCOUNT})
    alone: bool = False
    text_bytes: int = 0
    divisible: bool = False
    own_prompt: int = 0
    key: str = ""
    leaves_room: bool = False
    least_prompt: int = 1
    prompt_field: str = "prompt"

    @property
    def least_sequences(self) -> int:
        """How many of them make sense to begin with."""
        return 1 if self.divisible else self.sequences

    def part(self, sequences: int) -> Demand:
        """What so many of its sequences need: each has its answer, and its share of the prompts."""
        if sequences == self.sequences:
            return self
        fewer = self.sequences - sequences
        return msgspec.structs.replace(
            self,
            sequences=sequences,
            tokens=max(0, self.tokens - fewer * (self.output_tokens + self.own_prompt)),
            prompt_tokens=max(0, self.prompt_tokens - fewer * self.own_prompt),
        )

    def at_least(self, max_token_bytes: int) -> int:
        """Tokens that one sequence surely needs of a model; 0 for a longest token not known."""
        text = -(-self.text_bytes // max_token_bytes) if max_token_bytes > 0 else 0
        return max(self.least_tokens, text + 1)
