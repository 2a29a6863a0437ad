"""Rotary position embedding (Su et al., 2021), with `linear` and `llama3` scaling."""

from __future__ import annotations

import math
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
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache
from tandem.engine.families.rope import RopeScaling


@dataclass(frozen=True)
class RotarySlots:
    """A step's rows: cos and sin of their rotation (rows, head_dim), and their cache slots."""

    cos: torch.Tensor
    sin: torch.Tensor
    slots: torch.Tensor
    arrays: tuple[Numbers, Numbers, IntArray] | None

    @classmethod
    def of(cls, cos: torch.Tensor, sin: torch.Tensor, slots: torch.Tensor) -> RotarySlots:
        readable = has_loops(cos.dtype, cos.device)
        arrays = (as_array(cos), as_array(sin), slots.numpy()) if readable else None
        return cls(cos, sin, slots, arrays)


class Rotary:
    """cos and sin of each position, computed in float32 a step at a time: no table to outgrow."""

    def __init__(
        self, head_dim: int, theta: float, scaling: RopeScaling, device: torch.device
    ) -> None:
        self._frequencies = inverse_frequencies(head_dim, theta, scaling).to(device)

    def tables(
        self, positions: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """cos, sin of shape (tokens, head_dim) for int64 positions of shape (tokens,)."""
        angles = positions.to(torch.float32)[:, None] * self._frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def of_step(self, batch: StepBatch, dtype: torch.dtype) -> RotarySlots:
        """What every layer needs to rotate a step's rows and to keep them."""
        return RotarySlots.of(*self.tables(batch.positions, dtype), batch.slots)


def rotate_and_cache(
    joined: torch.Tensor, heads: int, step: RotarySlots, cache: LayerCache, results: ResultBuffer
) -> torch.Tensor:
    """Rotary embedding of queries and keys; keys and values go into the cache.

    `joined` is (rows, heads + 2 * kv_heads, head_dim), queries before keys before values. Returns
    the queries, (rows, heads, head_dim). Halves are rotated, as Hugging Face stores them.
    """
    rows, all_heads, head_dim = joined.shape
    if cache.arrays is not None and step.arrays is not None:
        queries = results.empty((rows, heads, head_dim), joined)
        compiled.rotate_and_cache(as_array(joined), *step.arrays, *cache.arrays, as_array(queries))
        return queries
    kv_heads = (all_heads - heads) // 2
    rotating, values = joined[:, : heads + kv_heads], joined[:, heads + kv_heads :]
    first, second = rotating.chunk(2, dim=-1)
    crossed = torch.cat((-second, first), dim=-1)
    rotated = rotating * step.cos[:, None] + crossed * step.sin[:, None]
    for stored, new in ((cache.keys, rotated[:, heads:]), (cache.values, values)):
        stored.view(-1, kv_heads, head_dim).index_copy_(0, step.slots, new)
    return rotated[:, :heads]


def inverse_frequencies(head_dim: int, theta: float, scaling: RopeScaling) -> torch.Tensor:
    """float32 frequencies of shape (head_dim / 2,), in radians a position."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).to(torch.float32) / head_dim
    frequencies = 1.0 / (theta**exponents)
    if scaling.rope_type == "linear":
        return frequencies / scaling.factor
    if scaling.rope_type == "llama3":
        return _llama3(frequencies, scaling)
    return frequencies


def _llama3(frequencies: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """Long wavelengths are stretched by `factor`, short ones kept, those between interpolated.

    Source: the Llama 3.1 model card's reference parameters and their meaning.
    """
    original = scaling.original_max_position_embeddings
    wavelengths = 2.0 * math.pi / frequencies
    span = scaling.high_freq_factor - scaling.low_freq_factor
    # 0 where the wavelength is long (scaled in full), 1 where it is short (kept).
    keep = ((original / wavelengths - scaling.low_freq_factor) / span).clamp(0.0, 1.0)
    return keep * frequencies + (1.0 - keep) * frequencies / scaling.factor
