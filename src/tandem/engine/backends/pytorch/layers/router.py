"""Which experts a token has, and how much each of them counts (Shazeer et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels.arrays import as_array, has_loops
from tandem.engine.backends.pytorch.kernels.compiled import Numbers
from tandem.engine.backends.pytorch.kernels.experts import Floats, multiply_alone, route
from tandem.engine.families.mlp import ExpertGroups, Routing

#: Added to a sum of scores of which each may be too small for a number.
_NEVER_ZERO = 1e-20


@dataclass(frozen=True)
class Chosen:
    """Of each row: the numbers of its experts, int64 (rows, top_k), and float32 factors of them."""

    experts: torch.Tensor
    factors: torch.Tensor


class Float32Linear:
    """(rows, width) → float32 (rows, outputs), whatever the states are: for few outputs.

    On CPUs a row's result does not depend on the rows beside it: it decides what is computed.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> None:
        """`weight` is float32 (outputs, width); it is kept in `dtype` if that loses nothing."""
        narrow = weight.to(dtype)
        self._weight = narrow if torch.equal(narrow.float(), weight) else weight
        self._bias = bias
        readable = has_loops(self._weight.dtype, weight.device)
        self._array = as_array(self._weight) if readable else None
        self._own_bias = np.empty(0, np.float32) if bias is None else bias.cpu().numpy()

    def arrays(self, states: torch.Tensor) -> tuple[Numbers, Numbers, Floats] | None:
        """States, weight and bias as the loops read them; None where they can't."""
        if not has_loops(states.dtype, states.device) or self._array is None:
            return None
        return as_array(states), self._array, self._own_bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        arrays = self.arrays(states)
        if arrays is not None:
            products = np.empty((len(states), len(self._weight)), np.float32)
            multiply_alone(*arrays, products)
            return torch.from_numpy(products)
        return functional.linear(states.float(), self._weight.float(), self._bias)


class Router:
    """Computed in float32, whatever the states are: ranks must choose the same experts."""

    def __init__(
        self, linear: Float32Linear, routing: Routing, correction: torch.Tensor | None = None
    ) -> None:
        """`linear` gives the logits of all experts.

        `correction`, float32 (experts,), is added to scores where they are compared.
        """
        self._linear = linear
        self._routing = routing
        self._correction = correction
        self._plain = correction is None and routing.groups is None and not routing.sigmoid

    def __call__(self, states: torch.Tensor) -> Chosen:
        """Of (rows, hidden)."""
        routing = self._routing
        arrays = self._linear.arrays(states) if self._plain else None
        if arrays is not None:
            experts = np.empty((len(states), routing.top_k), np.int64)
            factors = np.empty(experts.shape, np.float32)
            route(*arrays, routing.renormalised, experts, factors)
            factors *= np.float32(routing.scale)
            return Chosen(torch.from_numpy(experts), torch.from_numpy(factors))
        logits = self._linear(states)
        scores = torch.sigmoid(logits) if routing.sigmoid else torch.softmax(logits, dim=-1)
        compared = scores if self._correction is None else scores + self._correction
        if routing.groups is not None:
            compared = _within_groups(compared, routing.groups)
        numbers = compared.topk(routing.top_k).indices
        chosen = scores.gather(1, numbers)
        if routing.renormalised:
            chosen = chosen / (chosen.sum(dim=-1, keepdim=True) + _NEVER_ZERO)
        return Chosen(numbers, chosen * routing.scale)


def _within_groups(scores: torch.Tensor, groups: ExpertGroups) -> torch.Tensor:
    """(rows, experts), minus infinity where an expert's group is not one of the chosen."""
    grouped = scores.view(len(scores), groups.count, -1)
    best = grouped.topk(groups.best).values.sum(dim=-1).topk(groups.chosen).indices
    left_out = torch.ones(grouped.shape[:2], dtype=torch.bool, device=scores.device)
    left_out.scatter_(1, best, value=False)
    return grouped.masked_fill(left_out[..., None], float("-inf")).view(scores.shape)
