"""Which experts a token has, and how much each of them counts (Shazeer et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels.arrays import as_array, has_loops
from tandem.engine.backends.pytorch.kernels.compiled import Numbers
from tandem.engine.backends.pytorch.kernels.experts import Floats, multiply_alone, route
from tandem.engine.families.mlp import Routing


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

    def __init__(self, linear: Float32Linear, routing: Routing) -> None:
        """`linear` gives the logits of all experts."""
        self._linear = linear
        self._routing = routing

    def __call__(self, states: torch.Tensor) -> Chosen:
        """Of (rows, hidden)."""
        top_k, renormalised = self._routing.top_k, self._routing.renormalised
        arrays = self._linear.arrays(states)
        if arrays is not None:
            experts = np.empty((len(states), top_k), np.int64)
            factors = np.empty(experts.shape, np.float32)
            route(*arrays, renormalised, experts, factors)
            return Chosen(torch.from_numpy(experts), torch.from_numpy(factors))
        probabilities, numbers = torch.softmax(self._linear(states), dim=-1).topk(top_k)
        if renormalised:
            probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
        return Chosen(numbers, probabilities)
