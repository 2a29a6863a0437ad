"""What a model costs, as plans count it: bytes of weights, which a token reads once."""

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


def model_bytes(model: ModelFacts) -> int:
    """All weights, as one machine would hold them."""
    return layers_bytes(model) + model.embedding_bytes * (1 if model.tied else 2)
