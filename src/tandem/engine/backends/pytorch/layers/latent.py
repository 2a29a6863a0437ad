"""Multi-head latent attention (DeepSeek-AI, 2024), whose heads tensor-parallel ranks share.

A token's latent is in the cache and not what heads make of it. So their maps are applied to queries
and to what has been attended to: a product with a key W c is one of Wᵀ q with c.
"""

from __future__ import annotations

import torch

from tandem.engine.backends.pytorch.layers.batch import StepBatch
from tandem.engine.backends.pytorch.layers.groups import Scoring, paged_attention
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache
from tandem.engine.backends.pytorch.layers.linear import Linear
from tandem.engine.backends.pytorch.layers.norm import Norm
from tandem.engine.backends.pytorch.layers.rotary import RotarySlots, rotate
from tandem.engine.checkpoint.config import Latent
from tandem.engine.core.communicator import Communicator


class Queries:
    """(rows, query_rank) → (rows, heads * (plain + rotated)), of this rank's heads."""

    def __init__(self, norm: Norm, linear: Linear) -> None:
        self._norm, self._linear = norm, linear

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        return self._linear(self._norm(latents.contiguous()))


class HeadMaps:
    """What this rank's heads make of a latent: a key's plain numbers, and a value."""

    def __init__(self, weight: torch.Tensor, latent: Latent) -> None:
        """`weight` is (heads * (plain + values), rank)."""
        heads = weight.view(-1, latent.plain + latent.values, latent.rank)
        self.count = len(heads)
        self._keys = heads[:, : latent.plain].contiguous()
        self._values = heads[:, latent.plain :].transpose(1, 2).contiguous()

    def absorb(self, queries: torch.Tensor) -> torch.Tensor:
        """(rows, heads, plain) → (rows, heads, rank), whose products are with latents."""
        return torch.bmm(queries.transpose(0, 1), self._keys).transpose(0, 1)

    def values(self, attended: torch.Tensor) -> torch.Tensor:
        """(rows, heads * rank) → (rows, heads * values)."""
        rows = len(attended)
        latents = attended.view(rows, self.count, -1).transpose(0, 1)
        return torch.bmm(latents, self._values).transpose(0, 1).reshape(rows, -1)


class LatentAttention:
    """Project, rotate, keep the latent, attend to latents, project; summed over the ranks."""

    def __init__(
        self,
        latents: Linear,
        queries: Queries | None,
        norm: Norm,
        heads: HeadMaps,
        output: Linear,
        group: Communicator[torch.Tensor],
        *,
        latent: Latent,
        scoring: Scoring,
    ) -> None:
        """`latents` gives what `queries` takes, or the queries, before a token's own latent."""
        self._latents = latents
        self._queries = queries
        self._norm = norm
        self._heads = heads
        self._output = output
        self._group = group
        self._latent = latent
        self._scoring = scoring

    def __call__(
        self, states: torch.Tensor, batch: StepBatch, step: RotarySlots, cache: LayerCache
    ) -> torch.Tensor:
        """(rows, hidden) → (rows, hidden); the new latents are in the cache then."""
        joined, width = self._latents(states), self._latent.width
        queries = joined[:, :-width]
        if self._queries is not None:
            queries = self._queries(queries)
        queries = self._kept(queries, joined[:, -width:], step, cache)
        attended = paged_attention(queries, cache, batch.groups, self._scoring)
        return self._group.all_reduce(self._output(self._heads.values(attended)))

    def _kept(
        self, queries: torch.Tensor, latents: torch.Tensor, step: RotarySlots, cache: LayerCache
    ) -> torch.Tensor:
        """Keeps (rows, width) latents; returns queries of them, (rows, heads, width)."""
        own = self._latent
        heads = queries.reshape(len(queries), self._heads.count, own.plain + own.rotated)
        keys = latents[:, None, own.rank :]
        rotated = rotate(torch.cat((heads[..., own.plain :], keys), dim=1), step)
        normed = self._norm(latents[:, : own.rank].contiguous())[:, None]
        cache.keys.put(step.slots, torch.cat((normed, rotated[:, -1:]), dim=-1))
        absorbed = self._heads.absorb(heads[..., : own.plain])
        return torch.cat((absorbed, rotated[:, :-1]), dim=-1)
