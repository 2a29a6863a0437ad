"""Both ends of a decoder: the embedding and the head, whose vocabulary ranks share."""

from __future__ import annotations

import torch

from tandem.engine.backends.pytorch.layers.linear import Embedding, Linear
from tandem.engine.checkpoint.sharding import Span
from tandem.engine.core.communicator import Communicator


class Vocabulary:
    """What a shard has of the two: its slice, on the stages of a pipeline that have it at all."""

    def __init__(
        self,
        embedding: Embedding | None,
        head: Linear | None,
        own: Span,
        group: Communicator[torch.Tensor],
    ) -> None:
        """`own` are the tokens of the slice."""
        self._embedding = embedding
        self._head = head
        self._own = own
        self._group = group

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """(rows,) ids → (rows, hidden). A slice gives zeros for the others' tokens."""
        assert self._embedding is not None, "this shard does not embed"
        if self._group.size == 1:
            return self._embedding(tokens)
        local = tokens - self._own.start
        mine = (local >= 0) & (local < len(self._own))
        states = self._embedding(local.clamp(0, len(self._own) - 1))
        return self._group.all_reduce(states * mine[:, None])

    def logits(self, states: torch.Tensor) -> torch.Tensor | None:
        """(rows, hidden) → float32 (rows, vocabulary); None above rank 0.

        Rounded to bfloat16, likely tokens would often be equally likely.
        """
        assert self._head is not None, "this shard has no head"
        return self._group.gather(self._head(states, torch.float32))
