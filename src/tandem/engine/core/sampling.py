"""How tokens are chosen from logits. A parameter of sampling is declared here, and nowhere else.

Requests extend it by how long they may get, steps by which token is due.
"""

from __future__ import annotations

import msgspec


class SamplingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What every token of a request has in common; checked and complete.

    `temperature` 0 is greedy, `top_k` 0 means all. `logit_bias` is by token id. `logprobs` are how
    many of the likeliest tokens to report, None for no logprobs at all.
    """

    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None

    @property
    def has_penalties(self) -> bool:
        return bool(
            self.repetition_penalty != 1.0 or self.presence_penalty or self.frequency_penalty
        )

    @property
    def adjusts_logits(self) -> bool:
        """Whether logits are changed before the temperature is applied."""
        return bool(self.logit_bias) or self.has_penalties
