"""Multi-head latent attention (DeepSeek-AI, 2024), whose heads tensor-parallel ranks share.

A token's latent is in the cache and not what heads make of it. So their maps are applied to queries
and to what has been attended to: a product with a key W c is one of Wᵀ q with c. Long chunks of a
prompt make keys and values of the latents for a moment instead: products of them are shorter.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.layers.batch import StepBatch
from tandem.engine.backends.pytorch.layers.groups import Group, PaddedGroup, Scoring
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache
from tandem.engine.backends.pytorch.layers.linear import Linear
from tandem.engine.backends.pytorch.layers.norm import Norm
from tandem.engine.backends.pytorch.layers.rotary import RotarySlots, rotate
from tandem.engine.checkpoint.config import Latent
from tandem.engine.core.communicator import Communicator

#: Keys and values that are made of latents at once have no more numbers.
_MOST_EXPANDED = 2**26


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
        self.count, self._latent = len(heads), latent
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

    def expand(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, 1, context, width) → keys and values (batch, heads, context, head_dim).

        Zeros are behind values that are narrower: PyTorch's fast kernels want both of one width.
        """
        own = self._latent
        plain = latents[..., : own.rank] @ self._keys.transpose(1, 2)
        values = latents[..., : own.rank] @ self._values
        keys = torch.cat((plain, latents[..., own.rank :].expand(-1, self.count, -1, -1)), dim=-1)
        return keys, functional.pad(values, (0, max(0, keys.shape[-1] - own.values)))

    def expands(self, group: PaddedGroup) -> bool:
        """Whether that is less work for a group, and fits: each of its tokens is expanded once."""
        own = self._latent
        made, saved = own.plain + own.values, 2 * own.rank - own.plain - own.values
        tokens = math.prod(group.gathered[None].mask.shape[::3])
        width = 2 * max(own.plain + own.rotated, own.values)
        fits = tokens * self.count * width <= _MOST_EXPANDED
        return fits and group.fold == 1 and group.length * saved >= own.rank * made


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
        attended = [self._attended(queries[one.rows], one, cache) for one in batch.groups]
        values = attended[0] if len(attended) == 1 else torch.cat(attended)
        return self._group.all_reduce(self._output(values))

    def _attended(self, queries: torch.Tensor, group: Group, cache: LayerCache) -> torch.Tensor:
        """(n, heads, plain + rotated), those of a group → (n, heads * values)."""
        own, heads = self._latent, self._heads
        if isinstance(group, PaddedGroup) and heads.expands(group):
            keys, values = heads.expand(group.gather(cache.keys, self._scoring, queries.dtype))
            return group.over(queries, keys, values, self._scoring, own.values)
        absorbed = heads.absorb(queries[..., : own.plain])
        queries = torch.cat((absorbed, queries[..., own.plain :]), dim=-1)
        return heads.values(group.attend(queries, cache, self._scoring))

    def _kept(
        self, queries: torch.Tensor, latents: torch.Tensor, step: RotarySlots, cache: LayerCache
    ) -> torch.Tensor:
        """Keeps (rows, width) latents; returns queries, rotated, (rows, heads, plain + rotated)."""
        own = self._latent
        heads = queries.reshape(len(queries), self._heads.count, own.plain + own.rotated)
        keys = latents[:, None, own.rank :]
        rotated = rotate(torch.cat((heads[..., own.plain :], keys), dim=1), step)
        normed = self._norm(latents[:, : own.rank].contiguous())[:, None]
        cache.keys.put(step.slots, torch.cat((normed, rotated[:, -1:]), dim=-1))
        return torch.cat((heads[..., : own.plain], rotated[:, :-1]), dim=-1)
