"""The operators between the products: compiled loops where they take the tensors, else PyTorch's.

A step of a small batch makes hundreds of these calls, each with little to do, right after the
weights of a product have passed through all caches: what PyTorch spends on every call, and what it
takes to see a tensor as an array, is most of their time. So arrays are made once where they can be.
On GPUs, and for dtypes that the loops do not know, PyTorch's own operators compute the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels import compiled, products
from tandem.engine.backends.pytorch.kernels.compiled import Numbers
from tandem.engine.backends.pytorch.kernels.products import Tiles

IntArray = npt.NDArray[np.int64]


class Results:
    """Memory for an operator's results: for a single row always the same, whose array is known.

    Such a result stands until the operator's next call, which is in the next step.
    """

    def __init__(self) -> None:
        self._single: torch.Tensor | None = None

    def empty(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        if shape[0] != 1 or not takes(like.dtype, like.device):
            return like.new_empty(shape)
        if self._single is None or self._single.shape != shape:
            self._single = like.new_empty(shape)
            self._single.known_bits = bits(self._single)  # type: ignore[attr-defined]
        return self._single


class RMSNorm:
    """Zhang and Sennrich, 2019. Computed in float32, as the reference implementations do."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        self._weight = weight
        self._eps = eps
        self._bits = bits(weight) if takes(weight.dtype, weight.device) else None
        self._results = Results()

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        if self._bits is not None and states.is_contiguous():
            normalised = self._results.empty(states.shape, states)
            rows, results = bits(states), bits(normalised)
            if states.dim() > 2:
                rows, results = (array.reshape(-1, states.shape[-1]) for array in (rows, results))
            compiled.normalise(rows, self._bits, np.float32(self._eps), results)
            return normalised
        wide = states.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)
        return self._weight * wide.to(states.dtype)


def add(states: torch.Tensor, change: torch.Tensor, results: Results) -> torch.Tensor:
    return torch.add(states, change, out=results.empty(states.shape, states))


def swiglu(gates_and_ups: torch.Tensor, results: Results) -> torch.Tensor:
    """(rows, 2 * width), gates before ups → (rows, width). Shazeer, 2020."""
    if takes(gates_and_ups.dtype, gates_and_ups.device):
        rows, both = gates_and_ups.shape
        gated = results.empty((rows, both // 2), gates_and_ups)
        compiled.gate(bits(gates_and_ups), bits(gated))
        return gated
    gates, ups = gates_and_ups.chunk(2, dim=-1)
    return functional.silu(gates) * ups


class LayerCache:
    """Keys and values of one layer, (blocks, block_size, kv_heads, head_dim) each."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys, self.values = keys, values
        taken = takes(keys.dtype, keys.device)
        self.bits = (bits(keys), bits(values)) if taken else None


@dataclass(frozen=True)
class Places:
    """Where a step's rows stand: tables of their rotation (rows, head_dim), and their slots."""

    cos: torch.Tensor
    sin: torch.Tensor
    slots: torch.Tensor
    arrays: tuple[Numbers, Numbers, IntArray] | None

    @classmethod
    def of(cls, cos: torch.Tensor, sin: torch.Tensor, slots: torch.Tensor) -> Places:
        taken = takes(cos.dtype, cos.device)
        return cls(cos, sin, slots, (bits(cos), bits(sin), slots.numpy()) if taken else None)


def place(
    joined: torch.Tensor, heads: int, places: Places, cache: LayerCache, results: Results
) -> torch.Tensor:
    """Rotary embedding of queries and keys; keys and values go into the cache.

    `joined` is (rows, heads + 2 * kv_heads, head_dim), queries before keys before values. Returns
    the queries, (rows, heads, head_dim). Halves are rotated, as Hugging Face stores them.
    """
    rows, all_heads, head_dim = joined.shape
    if cache.bits is not None and places.arrays is not None:
        queries = results.empty((rows, heads, head_dim), joined)
        compiled.place(bits(joined), *places.arrays, *cache.bits, bits(queries))
        return queries
    kv_heads = (all_heads - heads) // 2
    turning, values = joined[:, : heads + kv_heads], joined[:, heads + kv_heads :]
    first, second = turning.chunk(2, dim=-1)
    crossed = torch.cat((-second, first), dim=-1)
    turned = turning * places.cos[:, None] + crossed * places.sin[:, None]
    for stored, new in ((cache.keys, turned[:, heads:]), (cache.values, values)):
        stored.view(-1, kv_heads, head_dim).index_copy_(0, places.slots, new)
    return turned[:, :heads]


def attend_paged(
    queries: torch.Tensor, cache: LayerCache, tables: IntArray, spans: IntArray
) -> torch.Tensor:
    """`compiled.attend` on tensors that `takes` says yes to: (rows, heads * head_dim)."""
    assert cache.bits is not None, "blocks are read in place where loops can read them"
    attended = torch.empty_like(queries)
    compiled.attend(bits(queries), *cache.bits, tables, spans, bits(attended))
    return attended.view(len(queries), -1)


def multiply_few(states: torch.Tensor, tiles: Tiles, results: Results) -> torch.Tensor:
    """`products.multiply_pairs` of bfloat16 (rows, in_features): (rows, out_features)."""
    product = results.empty((len(states), len(tiles) * products.TILE_OUTPUTS), states)
    pairs = bits(states).view(np.int32)
    products.multiply_pairs(tiles, pairs, bits(product).view(np.int16))
    return product


@dataclass(frozen=True)
class Digits:
    """`products.split_digits` of (rows, width): uint8 (2 * rows, width), and scales (rows,)."""

    values: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    unit: np.float32

    @classmethod
    def of(cls, states: torch.Tensor, unit: np.float32) -> Digits:
        rows, width = states.shape
        values, scales = np.empty((2 * rows, width), np.uint8), np.empty(rows, np.float32)
        products.split_digits(bits(states), unit, values, scales)
        return cls(values, scales, unit)


def multiply_digits(
    digits: Digits,
    tiles: Tiles,
    zeros: npt.NDArray[np.int32],
    outputs: torch.Tensor,
    joined: torch.Tensor,
) -> torch.Tensor:
    products.multiply_digits(
        tiles,
        digits.values.view(np.int32),
        zeros,
        outputs.numpy(),
        digits.unit,
        digits.scales,
        bits(joined),
    )
    return joined


def join_digits(digits: Digits, multiplied: torch.Tensor, joined: torch.Tensor) -> torch.Tensor:
    products.join_digits(multiplied.numpy(), digits.unit, digits.scales, bits(joined))
    return joined


def takes(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the compiled loops can read such tensors."""
    return device.type == "cpu" and dtype in {torch.float32, torch.bfloat16}


def bits(tensor: torch.Tensor) -> Numbers:
    """The tensor's own memory, as the loops take it."""
    known: Numbers | None = getattr(tensor, "known_bits", None)
    if known is not None:
        return known
    plain = tensor if tensor.dtype == torch.float32 else tensor.view(torch.int16)
    array: Numbers = plain.numpy()
    return array
