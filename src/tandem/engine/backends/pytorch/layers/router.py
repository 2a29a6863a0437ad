"""Which experts a token has, and how much each of them counts (Shazeer et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels.arrays import as_array, has_loops
from tandem.engine.backends.pytorch.kernels.experts import choose_experts, multiply_alone
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
        self._bias = weight.new_zeros(0) if bias is None else bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        if has_loops(states.dtype, states.device) and has_loops(self._weight.dtype, states.device):
            products = np.empty((len(states), len(self._weight)), np.float32)
            weight, bias = as_array(self._weight), self._bias.numpy()
            multiply_alone(as_array(states), weight, bias, products)
            return torch.from_numpy(products)
        own_bias = self._bias if len(self._bias) else None
        return functional.linear(states.float(), self._weight.float(), own_bias)


class Router:
    """Computed in float32, whatever the states are: ranks must choose the same experts."""

    def __init__(self, linear: Float32Linear, routing: Routing) -> None:
        """`linear` gives the logits of all experts."""
        self._linear = linear
        self._routing = routing

    def __call__(self, states: torch.Tensor) -> Chosen:
        """Of (rows, hidden)."""
        logits, routing = self._linear(states), self._routing
        if logits.device.type == "cpu":
            experts = np.empty((len(logits), routing.top_k), np.int64)
            factors = np.empty(experts.shape, np.float32)
            choose_experts(logits.numpy(), routing.renormalised, experts, factors)
            return Chosen(torch.from_numpy(experts), torch.from_numpy(factors))
        factors_, experts_ = torch.softmax(logits, dim=-1).topk(routing.top_k)
        if routing.renormalised:
            factors_ = factors_ / factors_.sum(dim=-1, keepdim=True)
        return Chosen(experts_, factors_)
