"""One sequence of tokens on its way through the scheduler. Plain data, no torch."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from tandem.engine.core.sampling import SamplingOptions


class SamplingParams(SamplingOptions, frozen=True, kw_only=True):
    """A request's. Tokens of `stop_token_ids` end the text and are no part of it."""

    max_tokens: int
    stop_token_ids: frozenset[int] = frozenset()


class SequenceState(Enum):
    """WAITING → RUNNING → FINISHED; RUNNING → WAITING when preempted."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False)
class Sequence:
    """`computed` tokens have their keys and values in `blocks`; the rest are still to compute.

    `planned` runs ahead of `computed` while steps are under way; no plan names a token twice.

    `group` is shared by the samples of one prompt: while one member prefills, the others wait to
    reuse its blocks. Sequences of one `cache_scope` reuse each other's blocks, and nobody else's.

    `overtaken` counts the tokens of those that were admitted before it while it was first in line.
    """

    sequence_id: int
    group: int
    choice: int
    tokens: list[int]
    params: SamplingParams
    prompt_length: int
    cache_scope: bytes = b""
    computed: int = 0
    planned: int = 0
    cached: int = 0
    overtaken: int = 0
    blocks: list[int] = field(default_factory=list)
    #: Keys of its full blocks, as far as they were asked for: they stay, since tokens do.
    block_keys: list[bytes] = field(default_factory=list)
    #: How many of its blocks are known by their keys.
    remembered: int = 0
    #: Whether its next tokens may be guessed: not again once a guess has spoilt its blocks.
    may_guess: bool = True
    state: SequenceState = SequenceState.WAITING
    _packed: array[int] = field(default_factory=lambda: array("i"))

    @cached_property
    def sampling_options(self) -> dict[str, Any]:
        """What the tokens' sampling has in common, by name: read once, not for every token."""
        return {name: getattr(self.params, name) for name in SamplingOptions.__struct_fields__}

    def packed(self) -> tuple[bytes, bytes]:
        """Prompt and output as `sampling.pack` has them; only what is new is packed."""
        self._packed.extend(self.tokens[len(self._packed) :])
        split = self.prompt_length
        return self._packed[:split].tobytes(), self._packed[split:].tobytes()

    @property
    def remaining(self) -> int:
        """Tokens known but in no plan yet; 1 when the next decode is due, 0 while it runs."""
        return len(self.tokens) - self.planned

    @property
    def is_under_way(self) -> bool:
        return self.planned > self.computed

    @property
    def is_prefilling(self) -> bool:
        return self.remaining > 1

    @property
    def output_length(self) -> int:
        return len(self.tokens) - self.prompt_length
