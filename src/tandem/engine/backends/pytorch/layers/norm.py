"""Norms of rows, and the sums of residual streams between them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels import compiled
from tandem.engine.backends.pytorch.kernels.arrays import (
    ResultBuffer,
    as_array,
    has_loops,
    is_kept,
)
from tandem.engine.backends.pytorch.kernels.compiled import Numbers
from tandem.engine.core.communicator import Communicator


class Norm(Protocol):
    """Each last dimension by itself; shape and dtype are kept."""

    def __call__(self, states: torch.Tensor) -> torch.Tensor: ...


class RMSNorm:
    """Zhang and Sennrich, 2019. Computed in float32 and rounded once.

    Some families' own code rounds before it multiplies by the weight. That brings nothing nearer.
    """

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        self._weight = weight.float()
        self._eps = eps
        self._array = self._weight.numpy() if weight.device.type == "cpu" else None
        self._results = ResultBuffer()

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        readable = states.is_contiguous() and has_loops(states.dtype, states.device)
        if self._array is not None and readable:
            normalised = self._results.empty(states.shape, states)
            rows, results = as_array(states), as_array(normalised)
            if states.dim() > 2:
                rows, results = (array.reshape(-1, states.shape[-1]) for array in (rows, results))
            self.into(rows, results)
            return normalised
        wide = states.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)
        return (self._weight * wide).to(states.dtype)

    def into(self, rows: Numbers, results: Numbers) -> None:
        """Each of (rows, width) on a CPU, by a compiled loop."""
        assert self._array is not None, "loops are for CPUs"
        compiled.rms_norm(rows, self._array, np.float32(self._eps), results)


class LayerNorm:
    """Ba et al., 2016. Computed in float32 and rounded once.

    The weight and the bias, if there is one, may have more dimensions than are normalised: a row
    for each head.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, eps: float) -> None:
        self._weight = weight.float()
        self._bias = None if bias is None else bias.float()
        self._eps = eps

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        wide = functional.layer_norm(states.float(), states.shape[-1:], eps=self._eps)
        wide = wide * self._weight
        return (wide if self._bias is None else wide + self._bias).to(states.dtype)


class HeadNorm(Protocol):
    """What becomes of queries and keys before they are rotated.

    (rows, heads + 2 * kv_heads, head_dim), queries before keys before values, which are kept.
    """

    def __call__(self, joined: torch.Tensor) -> torch.Tensor: ...


class NormPerHead:
    """Each head of queries and of keys by itself."""

    def __init__(self, queries: Norm, keys: Norm, heads: int, kv_heads: int) -> None:
        self._queries, self._keys = queries, keys
        self._sizes = [heads, kv_heads, kv_heads]
        self._results = ResultBuffer()

    def __call__(self, joined: torch.Tensor) -> torch.Tensor:
        queries, keys = self._queries, self._keys
        readable = len(joined) == 1 and has_loops(joined.dtype, joined.device)
        if readable and isinstance(queries, RMSNorm) and isinstance(keys, RMSNorm):
            return self._of_one(joined, queries, keys)
        parts = torch.split(joined, self._sizes, dim=1)
        return torch.cat((queries(parts[0]), keys(parts[1]), parts[2]), dim=1)

    def _of_one(self, joined: torch.Tensor, queries: RMSNorm, keys: RMSNorm) -> torch.Tensor:
        """Of a single row, whose heads are rows of one array."""
        normed = self._results.empty(joined.shape, joined)
        heads, results = as_array(joined)[0], as_array(normed)[0]
        first, values = self._sizes[0], self._sizes[0] + self._sizes[1]
        queries.into(heads[:first], results[:first])
        keys.into(heads[first:values], results[first:values])
        results[values:] = heads[values:]
        return normed


class NormOverHeads:
    """RMSNorm of all queries of a row and of all its keys, of which a rank has some heads.

    Computed in float32 and rounded once.
    """

    def __init__(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        eps: float,
        *,
        widths: tuple[int, int],
        group: Communicator[torch.Tensor],
    ) -> None:
        """`queries` and `keys` are the weights of this rank's heads, (heads, head_dim) each.

        `widths` count the numbers that a row has in all ranks, of queries and of keys.
        """
        self._sizes = [len(queries), len(keys), len(keys)]
        self._weights = queries.float(), keys.float()
        self._widths = torch.tensor(widths, dtype=torch.float32, device=queries.device)
        self._eps = eps
        self._group = group

    def __call__(self, joined: torch.Tensor) -> torch.Tensor:
        *normed, values = torch.split(joined, self._sizes, dim=1)
        wide = [part.float() for part in normed]
        own = torch.stack([part.pow(2).sum(dim=(1, 2)) for part in wide], dim=1)
        factors = torch.rsqrt(self._group.all_reduce(own) / self._widths + self._eps)
        scaled = [
            (part * factors[:, number, None, None] * weight).to(joined.dtype)
            for number, (part, weight) in enumerate(zip(wide, self._weights, strict=True))
        ]
        return torch.cat((*scaled, values), dim=1)


class Residual:
    """The sum of states and a change to them, which is multiplied by `scale`."""

    def __init__(self, scale: float = 1.0) -> None:
        self._scale, self._factor = scale, np.float32(scale)
        self._results = ResultBuffer()

    def __call__(self, states: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        results = self._results.empty(states.shape, states)
        if is_kept(results) and states.is_contiguous() and change.is_contiguous():
            compiled.add(as_array(states), as_array(change), self._factor, as_array(results))
            return results
        return torch.add(states, change, alpha=self._scale, out=results)
