"""Which experts a token has, and how much each of them counts (Shazeer et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from tandem.engine.families.mlp import Routing


@dataclass(frozen=True)
class Chosen:
    """Of each row: the numbers of its experts, int64 (rows, top_k), and float32 factors of them."""

    experts: torch.Tensor
    factors: torch.Tensor


class Router:
    """Computed in float32, whatever the states are: ranks must choose the same experts."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, routing: Routing) -> None:
        """`weight` is float32 (experts, hidden), `bias` (experts,)."""
        self._weight, self._bias = weight, bias
        self._routing = routing

    def __call__(self, states: torch.Tensor) -> Chosen:
        """Of (rows, hidden)."""
        logits = functional.linear(states.float(), self._weight, self._bias)
        factors, experts = torch.softmax(logits, dim=-1).topk(self._routing.top_k)
        if self._routing.renormalised:
            factors = factors / factors.sum(dim=-1, keepdim=True)
        return Chosen(experts, factors)
