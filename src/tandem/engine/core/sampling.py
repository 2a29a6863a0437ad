"""How tokens are chosen from logits. A parameter of sampling is declared here, and nowhere else.

Requests extend it by how long they may get, steps by which token is due.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping

import msgspec

from tandem.errors import InvalidRequest

_MAX_TOKEN_ID = 2**31 - 1


def pack(token_ids: Iterable[int]) -> bytes:
    """As 32-bit integers of this machine: no Python object a token where a step is carried."""
    return array("i", token_ids).tobytes()


def unpack(packed: bytes) -> list[int]:
    return array("i", packed).tolist()


class LogitBias(msgspec.Struct, frozen=True, array_like=True):
    """What is added to the logits of some tokens, made once a request: ids, and float32s."""

    tokens: bytes
    values: bytes

    @classmethod
    def of(cls, biases: Mapping[int, float]) -> LogitBias | None:
        """None for none. Raises InvalidRequest for an id that no vocabulary has."""
        for token in biases:
            if not 0 <= token <= _MAX_TOKEN_ID:
                raise InvalidRequest(f"there is no token {token}", param="logit_bias")
        return cls(pack(biases), array("f", biases.values()).tobytes()) if biases else None

    @property
    def token_ids(self) -> list[int]:
        return unpack(self.tokens)


class SamplingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What every token of a request has in common; checked and complete.

    `temperature` 0 is greedy, `top_k` 0 means all. `logprobs` are how
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
    logit_bias: LogitBias | None = None
    logprobs: int | None = None

    @property
    def has_penalties(self) -> bool:
        return bool(
            self.repetition_penalty != 1.0 or self.presence_penalty or self.frequency_penalty
        )

    @property
    def adjusts_logits(self) -> bool:
        """Whether logits are changed before the temperature is applied."""
        return self.logit_bias is not None or self.has_penalties
