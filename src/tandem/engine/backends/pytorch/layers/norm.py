"""Norms of rows, and the sums of residual streams between them."""

from __future__ import annotations

import numpy as np
import torch

from tandem.engine.backends.pytorch.kernels import compiled
from tandem.engine.backends.pytorch.kernels.arrays import ResultBuffer, as_array, has_loops


class RMSNorm:
    """Zhang and Sennrich, 2019. Computed in float32, as the reference implementations do."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        self._weight = weight
        self._eps = eps
        self._array = as_array(weight) if has_loops(weight.dtype, weight.device) else None
        self._results = ResultBuffer()

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Each last dimension by itself; shape and dtype are kept."""
        if self._array is not None and states.is_contiguous():
            normalised = self._results.empty(states.shape, states)
            rows, results = as_array(states), as_array(normalised)
            if states.dim() > 2:
                rows, results = (array.reshape(-1, states.shape[-1]) for array in (rows, results))
            compiled.rms_norm(rows, self._array, np.float32(self._eps), results)
            return normalised
        wide = states.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)
        return self._weight * wide.to(states.dtype)


class Residual:
    """The sum of states and a change to them."""

    def __init__(self) -> None:
        self._results = ResultBuffer()

    def __call__(self, states: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        return torch.add(states, change, out=self._results.empty(states.shape, states))
