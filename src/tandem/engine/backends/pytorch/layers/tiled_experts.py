"""Experts whose weights compiled loops read in tiles: all that few rows have chosen in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels.arrays import as_array
from tandem.engine.backends.pytorch.kernels.compiled import Numbers
from tandem.engine.backends.pytorch.kernels.experts import (
    CLAMPED,
    GELU,
    SILU,
    Gating,
    TileTable,
    add_experts,
)
from tandem.engine.backends.pytorch.kernels.packed import PackedLinear
from tandem.engine.backends.pytorch.kernels.tiled.experts import (
    MOST_ROWS,
    ExpertTable,
    Table,
    add_tiled_experts,
    current_team,
)
from tandem.engine.backends.pytorch.kernels.tiled.linear import TiledLinear
from tandem.engine.backends.pytorch.layers import mlp
from tandem.engine.backends.pytorch.layers.linear import Linear
from tandem.engine.backends.pytorch.layers.mlp import ClampedGate, Expert, Gate, gelu_tanh
from tandem.engine.backends.pytorch.layers.router import Chosen


class FewRows(Protocol):
    """`layers.experts.Experts` of few rows."""

    def is_fast(self, states: torch.Tensor) -> bool: ...

    def __call__(self, states: torch.Tensor, chosen: Chosen) -> torch.Tensor: ...


def make_few_rows(experts: Sequence[Expert], first: int) -> FewRows | None:
    """Of a rank's experts, of which `first` is the number of the first one; None without loops."""
    return PackedExperts.of(experts, first) or TiledExperts.of(experts, first)


@dataclass(frozen=True)
class PackedExperts:
    """Of weights in oneDNN's tiles."""

    gate_ups: TileTable
    downs: TileTable
    biases: tuple[Numbers, Numbers]
    gating: Gating
    first: int

    @classmethod
    def of(cls, experts: Sequence[Expert], first: int) -> PackedExperts | None:
        """None where the loops cannot read them."""
        gating = _gating(experts)
        gate_ups = _packed([expert.gate_up for expert in experts])
        downs = _packed([expert.down for expert in experts])
        if gating is None or gate_ups is None or downs is None:
            return None
        return cls(gate_ups[0], downs[0], (gate_ups[1], downs[1]), gating, first)

    def is_fast(self, states: torch.Tensor) -> bool:
        return PackedLinear.is_compiled(len(states))

    def __call__(self, states: torch.Tensor, chosen: Chosen) -> torch.Tensor:
        totals = np.zeros(states.shape, np.float32)
        add_experts(
            (self.gate_ups.addresses, self.gate_ups.shape),
            (self.downs.addresses, self.downs.shape),
            self.biases,
            self.gating,
            as_array(states).view(np.int32),
            (chosen.experts.numpy(), chosen.factors.numpy()),
            self.first,
            totals,
        )
        return torch.from_numpy(totals)


class TiledExperts:
    """Of weights in tiles of our own, bfloat16 or in few bits, for states in bfloat16."""

    def __init__(
        self,
        tables: tuple[ExpertTable, ExpertTable],
        biases: tuple[Numbers, Numbers],
        gating: Gating,
        first: int,
    ) -> None:
        """`tables` and `biases` are those of gates and ups, and of downs."""
        self._tables = tables
        self._biases = biases
        self._gating = gating
        self._first = first
        self._compiled: dict[tuple[int, int], tuple[Table, Table]] = {}  # by `current_team`

    @classmethod
    def of(cls, experts: Sequence[Expert], first: int) -> TiledExperts | None:
        """None where the loops cannot read them, or they are not all kept in one way."""
        gating = _gating(experts)
        gate_ups = _tiled([expert.gate_up for expert in experts])
        downs = _tiled([expert.down for expert in experts])
        if gating is None or gate_ups is None or downs is None:
            return None
        return cls((gate_ups[0], downs[0]), (gate_ups[1], downs[1]), gating, first)

    def is_fast(self, states: torch.Tensor) -> bool:
        return len(states) <= MOST_ROWS and states.dtype == torch.bfloat16

    def __call__(self, states: torch.Tensor, chosen: Chosen) -> torch.Tensor:
        totals, team = np.zeros(states.shape, np.float32), current_team()
        add_tiled_experts(
            self._of_team(team),
            self._biases,
            self._gating,
            as_array(states),
            (chosen.experts.numpy(), chosen.factors.numpy()),
            self._first,
            team,
            totals,
        )
        return torch.from_numpy(totals)

    def _of_team(self, team: tuple[int, int]) -> tuple[Table, Table]:
        compiled = self._compiled.get(team)
        if compiled is None:
            gate_ups, downs = self._tables
            compiled = self._compiled[team] = (gate_ups.compiled(), downs.compiled())
        return compiled


def _gating(experts: Sequence[Expert]) -> Gating | None:
    """None for gates that the loops do not know."""
    gating = experts[0].gating if experts else None
    if isinstance(gating, ClampedGate):
        return CLAMPED, np.float32(gating.clamp.limit), np.float32(gating.clamp.alpha)
    if not isinstance(gating, Gate):
        return None
    loops: dict[mlp.Activation, int] = {functional.silu: SILU, gelu_tanh: GELU}
    loop = loops.get(gating.activation)
    return None if loop is None else (loop, np.float32(0), np.float32(0))


def _packed(linears: Sequence[Linear]) -> tuple[TileTable, Numbers] | None:
    """The tiles and the biases of all, (experts, outputs), or of none with no rows."""
    packed = [linear for linear in linears if isinstance(linear, PackedLinear)]
    tiles = [linear.tiles for linear in packed if linear.tiles is not None]
    biases = _biases([linear.bias for linear in packed])
    if not tiles or len(tiles) < len(linears) or biases is None:
        return None
    return TileTable.of(tiles), biases


def _tiled(linears: Sequence[Linear]) -> tuple[ExpertTable, Numbers] | None:
    """As above."""
    tiled = [linear for linear in linears if isinstance(linear, TiledLinear)]
    biases = _biases([linear.bias for linear in tiled])
    if not tiled or len(tiled) < len(linears) or biases is None:
        return None
    table = ExpertTable([linear.weight for linear in tiled])
    return (table, biases) if table.is_uniform else None


def _biases(biases: Sequence[torch.Tensor | None]) -> Numbers | None:
    """(experts, outputs) of bfloat16, with no rows if none has one; None if only some have."""
    given = [bias for bias in biases if bias is not None]
    if len(given) not in (0, len(biases)):
        return None
    stacked = torch.stack(given) if given else torch.empty((0, 0))
    return as_array(stacked.to(torch.bfloat16))
