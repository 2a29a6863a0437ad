"""Products by weights that are kept as plain tensors, on every device."""

from __future__ import annotations

import torch
from torch.nn import functional

#: Outputs whose weights are widened at a time, which the caches of most CPUs hold.
_WIDENED_OUTPUTS = 1024


def linear(
    states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """`functional.linear`, whose result is of the states' `dtype` or of float32."""
    if dtype in {None, states.dtype}:
        return functional.linear(states, weight, bias)
    if states.is_cuda:  # others round before they give anything away
        product = torch.mm(states, weight.T, out_dtype=dtype)
    else:
        wide = states.to(dtype)
        parts = torch.split(weight, _WIDENED_OUTPUTS)
        product = torch.cat([functional.linear(wide, part.to(dtype)) for part in parts], dim=-1)
    return product if bias is None else product + bias
