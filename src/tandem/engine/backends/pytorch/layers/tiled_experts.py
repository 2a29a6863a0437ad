"""Experts whose weights compiled loops read in tiles: all that few rows have chosen in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels.arrays import as_array
from tandem.engine.backends.pytorch.kernels.compiled import Numbers
from tandem.engine.backends.pytorch.kernels.experts import TileTable, add_experts
from tandem.engine.backends.pytorch.kernels.packed import PackedLinear
from tandem.engine.backends.pytorch.layers.linear import Linear
from tandem.engine.backends.pytorch.layers.mlp import ClampedGate, Expert, Gate, Gating
from tandem.engine.backends.pytorch.layers.router import Chosen

_Clamp = tuple[np.float32, np.float32]


@dataclass(frozen=True)
class TiledExperts:
    """`layers.experts.Experts` of few rows."""

    gate_ups: TileTable
    downs: TileTable
    biases: tuple[Numbers, Numbers]
    clamp: _Clamp
    first: int

    @classmethod
    def of(cls, experts: Sequence[Expert], first: int) -> TiledExperts | None:
        """None where the loops cannot read them."""
        clamp = _clamp(experts[0].gating) if experts else None
        gate_ups = _tables([expert.gate_up for expert in experts])
        downs = _tables([expert.down for expert in experts])
        if clamp is None or gate_ups is None or downs is None:
            return None
        return cls(gate_ups[0], downs[0], (gate_ups[1], downs[1]), clamp, first)

    def is_fast(self, rows: int) -> bool:
        return PackedLinear.is_compiled(rows)

    def __call__(self, states: torch.Tensor, chosen: Chosen) -> torch.Tensor:
        totals = np.zeros(states.shape, np.float32)
        add_experts(
            (self.gate_ups.addresses, self.gate_ups.shape),
            (self.downs.addresses, self.downs.shape),
            self.biases,
            self.clamp,
            as_array(states).view(np.int32),
            (chosen.experts.numpy(), chosen.factors.numpy()),
            self.first,
            totals,
        )
        return torch.from_numpy(totals)


def _clamp(gating: Gating) -> _Clamp | None:
    """Zeros for SwiGLU, None for gates that the loops do not know."""
    if isinstance(gating, ClampedGate):
        return np.float32(gating.clamp.limit), np.float32(gating.clamp.alpha)
    known = isinstance(gating, Gate) and gating.activation is functional.silu
    return (np.float32(0), np.float32(0)) if known else None


def _tables(linears: Sequence[Linear]) -> tuple[TileTable, Numbers] | None:
    """The tiles and the biases of all, (experts, outputs), or of none with no rows."""
    packed = [linear for linear in linears if isinstance(linear, PackedLinear)]
    tiles = [linear.tiles for linear in packed if linear.tiles is not None]
    biases = [linear.bias for linear in packed if linear.bias is not None]
    if not tiles or len(tiles) < len(linears) or len(biases) not in (0, len(linears)):
        return None
    stacked = torch.stack(biases) if biases else torch.empty((0, 0), dtype=torch.bfloat16)
    return TileTable.of(tiles), as_array(stacked)
