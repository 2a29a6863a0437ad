"""Multi-head latent attention (DeepSeek-AI, 2024): what its layers have in a file."""

from __future__ import annotations

import msgspec

from tandem.engine.checkpoint.config import Latent
from tandem.engine.checkpoint.layout import (
    Axis,
    Division,
    Norm,
    Pairs,
    Projection,
    norm,
    projection,
)


class LatentTensors(msgspec.Struct, frozen=True):
    """`queries` are made of states, or of `query_latent` after its norm.

    `latent` gives a token's latent and behind it what its keys rotate, `heads` what each head has
    of a latent: its key's other numbers, and its value.
    """

    queries: Projection
    latent: Projection
    latent_norm: Norm
    heads: Projection
    output: Projection
    query_latent: Projection | None = None
    query_norm: Norm | None = None


def latent_tensors(
    prefix: str, latent: Latent, heads: int, hidden: int, *, bias: bool
) -> LatentTensors:
    """Ranks share the heads; each has whole what is made of states before them."""
    query, expanded = latent.plain + latent.rotated, latent.plain + latent.values
    by_query, by_value = Division(Axis.KV_HEADS, query), Division(Axis.KV_HEADS, latent.values)
    query_pairs = latent_pairs = None
    if latent.pairs:
        query_pairs = Pairs(query, latent.rotated, first=latent.plain)
        latent_pairs = Pairs(latent.width, latent.rotated, first=latent.rank)
    rank = latent.query_rank

    def queries(name: str, inputs: int) -> Projection:
        shape = (heads * query, inputs)
        return projection(prefix + name, shape, rows=by_query, pairs=query_pairs)

    return LatentTensors(
        queries("q_proj", hidden) if rank is None else queries("q_b_proj", rank),
        projection(
            prefix + "kv_a_proj_with_mqa", (latent.width, hidden), bias=bias, pairs=latent_pairs
        ),
        norm(prefix + "kv_a_layernorm", latent.rank),
        projection(
            prefix + "kv_b_proj",
            (heads * expanded, latent.rank),
            rows=Division(Axis.KV_HEADS, expanded),
        ),
        projection(prefix + "o_proj", (hidden, heads * latent.values), bias=bias, columns=by_value),
        None if rank is None else projection(prefix + "q_a_proj", (rank, hidden), bias=bias),
        None if rank is None else norm(prefix + "q_a_layernorm", rank),
    )
