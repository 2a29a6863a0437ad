"""A mixture of experts (Shazeer et al., 2017), which tensor-parallel ranks divide as wholes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from tandem.engine.backends.pytorch.kernels.arrays import IntArray
from tandem.engine.backends.pytorch.layers.mlp import Expert
from tandem.engine.backends.pytorch.layers.router import Chosen, Float32Linear, Router
from tandem.engine.backends.pytorch.layers.tiled_experts import FewRows, make_few_rows
from tandem.engine.core.communicator import Communicator


class Experts(Protocol):
    """Those of a rank."""

    def __call__(self, states: torch.Tensor, chosen: Chosen) -> torch.Tensor:
        """(rows, hidden) → float32 (rows, hidden): the sum of each row's experts that are here."""
        ...


class GroupedExperts:
    """One after the other, each for all rows that have chosen it; others are not read.

    A row's results are added up in the order of the experts' numbers, so its sum does not depend
    on the rows beside it.
    """

    def __init__(self, experts: Sequence[Expert], first: int) -> None:
        """`first` is the number of the first one."""
        self._experts = experts
        self._first = first

    def __call__(self, states: torch.Tensor, chosen: Chosen) -> torch.Tensor:
        total = torch.zeros(states.shape, dtype=torch.float32, device=states.device)
        if len(states) == 1:
            return self._of_one(states, chosen, total)
        top_k = chosen.experts.shape[1]
        factors = chosen.factors.reshape(-1, 1)
        for expert, places in self._groups(chosen):
            where = torch.from_numpy(places).to(states.device)
            rows = where // top_k
            results = expert(states.index_select(0, rows)).float()
            total.index_add_(0, rows, results * factors.index_select(0, where))
        return total

    def _of_one(self, states: torch.Tensor, chosen: Chosen, total: torch.Tensor) -> torch.Tensor:
        """Of a single row, with as few calls as can be."""
        pairs = zip(chosen.experts[0].tolist(), chosen.factors[0].tolist(), strict=True)
        for number, factor in sorted(pairs):
            place = number - self._first
            if 0 <= place < len(self._experts):
                total += self._experts[place](states).float() * factor
        return total

    def _groups(self, chosen: Chosen) -> Iterator[tuple[Expert, IntArray]]:
        """Experts that are here and have rows, each with its places in the flat choice."""
        flat = chosen.experts.flatten().cpu().numpy()
        order = np.argsort(flat, kind="stable")
        last = self._first + len(self._experts)
        cuts = np.searchsorted(flat[order], np.arange(self._first, last + 1))
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            yield self._experts[number], order[cuts[number] : cuts[number + 1]]


class FewRowsFirst:
    """By one call for few rows, and by groups for more."""

    def __init__(self, few: FewRows, grouped: GroupedExperts) -> None:
        self._few, self._grouped = few, grouped

    def __call__(self, states: torch.Tensor, chosen: Chosen) -> torch.Tensor:
        experts = self._few if self._few.is_fast(states) else self._grouped
        return experts(states, chosen)


def make_experts(experts: Sequence[Expert], first: int) -> Experts:
    """Of a rank's experts, of which `first` is the number of the first one."""
    grouped = GroupedExperts(experts, first)
    few = make_few_rows(experts, first)
    return grouped if few is None else FewRowsFirst(few, grouped)


class SharedExpert:
    """An MLP for all tokens, of which each takes a share by the sigmoid of a product with it."""

    def __init__(self, mlp: Expert, gate: Float32Linear | None) -> None:
        """`gate` gives one number a row."""
        self._mlp = mlp
        self._gate = gate

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """(rows, hidden) → float32 (rows, hidden)."""
        result = self._mlp(states).float()
        return result if self._gate is None else result * torch.sigmoid(self._gate(states))


class ExpertMLP:
    """The experts of each token, and what all tokens have beside them, summed over the ranks."""

    def __init__(
        self,
        router: Router,
        experts: Experts,
        shared: SharedExpert | None,
        group: Communicator[torch.Tensor],
    ) -> None:
        self._router = router
        self._experts = experts
        self._shared = shared
        self._group = group

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        total = self._experts(states, self._router(states))
        if self._shared is not None:
            total += self._shared(states)
        return self._group.all_reduce(total.to(states.dtype))
