"""What a model costs, as plans count it: bytes of weights, of which a token reads some once.

All of them must fit in memory; of experts a token reads those that it chooses. Several tokens of a
step choose others and read more: plans leave that out, for what they compare is read by all ranks
alike, and few sequences are what a person's cluster serves.
"""

from __future__ import annotations

import msgspec

from tandem.protocol.cluster import ModelFacts

#: Of a machine's memory, what weights may take.
WEIGHTS_SHARE = 0.8


class Held(msgspec.Struct, frozen=True):
    """What one rank holds."""

    weights_bytes: float
    kv_bytes_per_token: float


def layers_bytes(model: ModelFacts, first: int = 0, end: int | None = None) -> int:
    """The weights of a range of layers, without embedding and head."""
    return sum(model.layer_bytes[first:end])


def read_bytes(model: ModelFacts, first: int = 0, end: int | None = None) -> int:
    """What one token reads of a range of layers."""
    return sum(model.read_bytes[first:end])


def model_bytes(model: ModelFacts) -> int:
    """All weights, as one machine would hold them."""
    return layers_bytes(model) + model.embedding_bytes * (1 if model.tied else 2)
