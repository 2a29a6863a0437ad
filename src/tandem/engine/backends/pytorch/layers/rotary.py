"""Rotary position embedding (Su et al., 2021) of a head or its first part, as layers have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tandem.engine.backends.pytorch.kernels import compiled
from tandem.engine.backends.pytorch.kernels.arrays import (
    IntArray,
    ResultBuffer,
    as_array,
    has_loops,
)
from tandem.engine.backends.pytorch.kernels.compiled import Numbers
from tandem.engine.backends.pytorch.layers.batch import StepBatch
from tandem.engine.backends.pytorch.layers.frequencies import inverse_frequencies
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache
from tandem.engine.families.rope import Rope


@dataclass(frozen=True)
class RotarySlots:
    """A step's rows: cos and sin of their rotation (rows, rotary_dim), and their slots.

    With a `rotary_dim` of 0 nothing is rotated. `growth`, (rows, 1, 1), multiplies queries.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    slots: torch.Tensor
    arrays: tuple[Numbers, Numbers, IntArray] | None
    growth: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        cos: torch.Tensor,
        sin: torch.Tensor,
        slots: torch.Tensor,
        growth: torch.Tensor | None = None,
    ) -> RotarySlots:
        readable = has_loops(cos.dtype, cos.device)
        arrays = (as_array(cos), as_array(sin), slots.numpy()) if readable else None
        return cls(cos, sin, slots, arrays, growth)


class Rotary:
    """cos and sin of each position, computed in float32 a step at a time: no table to outgrow."""

    def __init__(
        self, ropes: Sequence[Rope | None], context: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """`ropes` are the layers', None for those that don't rotate.

        `context` is what sequences may reach, prompt and output, in tokens; `dtype` that of states.
        """
        distinct = list(dict.fromkeys(ropes))
        self._of_layer = [distinct.index(rope) for rope in ropes]
        self._turning = [_Turning(rope, context, dtype, device) for rope in distinct]

    def of_step(self, batch: StepBatch) -> list[RotarySlots]:
        """What each layer needs to rotate a step's rows and to keep them."""
        found = [turning.of_step(batch) for turning in self._turning]
        return [found[number] for number in self._of_layer]


class _Turning:
    """The layers that rotate alike."""

    def __init__(
        self, rope: Rope | None, context: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        still = torch.empty(0, device=device)
        self._frequencies = inverse_frequencies(rope, context).to(device) if rope else still
        self._factor = rope.attention_factor if rope else 1.0
        self._growth = rope.growth if rope else None
        self._dtype = dtype

    def of_step(self, batch: StepBatch) -> RotarySlots:
        positions = batch.positions.to(torch.float32)
        angles = positions[:, None] * self._frequencies
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = (
            (table * self._factor).to(self._dtype) for table in (angles.cos(), angles.sin())
        )
        growth = None
        if self._growth is not None:
            wholes = torch.floor(positions / self._growth.original_context)
            growth = (1 + self._growth.beta * torch.log1p(wholes)).to(self._dtype)[:, None, None]
        return RotarySlots.of(cos, sin, batch.slots, growth)


def rotate_and_cache(
    joined: torch.Tensor, heads: int, step: RotarySlots, cache: LayerCache, results: ResultBuffer
) -> torch.Tensor:
    """Rotary embedding of queries and keys; keys and values go into the cache.

    `joined` is (rows, heads + 2 * kv_heads, head_dim), queries before keys before values. Returns
    the queries, (rows, heads, head_dim). Halves are rotated, as Hugging Face stores them, of what
    the tables are wide; the rest of a head is kept.
    """
    rows, all_heads, head_dim = joined.shape
    if cache.arrays is not None and step.arrays is not None:
        queries = results.empty((rows, heads, head_dim), joined)
        arrays = (*step.arrays, *cache.arrays)
        compiled.rotate_and_cache(as_array(joined), *arrays, as_array(queries))
        return _grown(queries, step)
    kv_heads = (all_heads - heads) // 2
    rotating, values = joined[:, : heads + kv_heads], joined[:, heads + kv_heads :]
    rotated = rotate(rotating, step)
    cache.keys.put(step.slots, rotated[:, heads:])
    cache.values.put(step.slots, values)
    return _grown(rotated[:, :heads], step)


def _grown(queries: torch.Tensor, step: RotarySlots) -> torch.Tensor:
    return queries if step.growth is None else queries * step.growth


def rotate(heads: torch.Tensor, step: RotarySlots) -> torch.Tensor:
    """(rows, heads, head_dim), in halves, of what the tables are wide; the rest is kept."""
    cos, sin = step.cos[:, None], step.sin[:, None]
    width = cos.shape[-1]
    first, second = heads[..., : width // 2], heads[..., width // 2 : width]
    crossed = torch.cat((-second, first), dim=-1)
    return torch.cat((heads[..., :width] * cos + crossed * sin, heads[..., width:]), dim=-1)
