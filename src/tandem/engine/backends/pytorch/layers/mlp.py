"""The gated MLP (Shazeer, 2020), whose columns tensor-parallel ranks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels import compiled
from tandem.engine.backends.pytorch.kernels.arrays import ResultBuffer, as_array, has_loops
from tandem.engine.backends.pytorch.layers.linear import Linear
from tandem.engine.core.communicator import Communicator
from tandem.engine.families.mlp import GateClamp

Activation = Callable[[torch.Tensor], torch.Tensor]


def gelu_tanh(states: torch.Tensor) -> torch.Tensor:
    """GELU (Hendrycks and Gimpel, 2016) by its approximation with tanh."""
    return functional.gelu(states, approximate="tanh")


def relu2(states: torch.Tensor) -> torch.Tensor:
    """The square of what is above 0 (So et al., 2021)."""
    return functional.relu(states).square()


#: By what configs call them; several names of one function.
ACTIVATIONS: dict[str, Activation] = {
    "silu": functional.silu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_new": gelu_tanh,
    "relu2": relu2,
}

#: Those that a compiled loop gates by.
_LOOPS = {functional.silu: compiled.swiglu, gelu_tanh: compiled.geglu}


class MLP(Protocol):
    """(rows, hidden) → (rows, hidden), summed over the ranks."""

    def __call__(self, states: torch.Tensor) -> torch.Tensor: ...


class GatedMLP:
    """down(activation(gate(x)) * up(x)), summed over the ranks."""

    def __init__(
        self,
        gate_up: Linear,
        down: Linear,
        group: Communicator[torch.Tensor],
        activation: Activation = functional.silu,
    ) -> None:
        """`gate_up` gives this rank's gates before its ups, `down` takes their products."""
        self._gate_up = gate_up
        self._down = down
        self._group = group
        self._activation = activation
        self._results = ResultBuffer()

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        gated = gate(self._gate_up(states), self._activation, self._results)
        return self._group.all_reduce(self._down(gated))


class PlainMLP:
    """down(activation(up(x))), summed over the ranks."""

    def __init__(
        self,
        up: Linear,
        down: Linear,
        group: Communicator[torch.Tensor],
        activation: Activation,
    ) -> None:
        self._up, self._down = up, down
        self._group = group
        self._activation = activation

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return self._group.all_reduce(self._down(self._activation(self._up(states))))


def gate(
    gates_and_ups: torch.Tensor, activation: Activation, results: ResultBuffer
) -> torch.Tensor:
    """(rows, 2 * width), gates before ups → (rows, width); on CPUs by a loop, if there is one."""
    loop = _LOOPS.get(activation)
    if loop is not None and has_loops(gates_and_ups.dtype, gates_and_ups.device):
        rows, both = gates_and_ups.shape
        gated = results.empty((rows, both // 2), gates_and_ups)
        loop(as_array(gates_and_ups), as_array(gated))
        return gated
    gates, ups = gates_and_ups.chunk(2, dim=-1)
    return activation(gates) * ups


class Gating(Protocol):
    """(rows, 2 * width), gates before ups → (rows, width)."""

    def __call__(self, gates_and_ups: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Expert:
    """`gate_up` gives its gates before its ups, `down` takes what `gating` makes of them."""

    gate_up: Linear
    down: Linear
    gating: Gating

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return self.down(self.gating(self.gate_up(states)))


class Gate:
    """`gate` by an activation."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        self._results = ResultBuffer()

    def __call__(self, gates_and_ups: torch.Tensor) -> torch.Tensor:
        return gate(gates_and_ups, self.activation, self._results)


class ClampedGate:
    """Within the limits of a `clamp`; computed in float32 and rounded once."""

    def __init__(self, clamp: GateClamp) -> None:
        self.clamp = clamp

    def __call__(self, gates_and_ups: torch.Tensor) -> torch.Tensor:
        limit, alpha = self.clamp.limit, self.clamp.alpha
        gates, ups = gates_and_ups.float().chunk(2, dim=-1)
        gates = gates.clamp(max=limit)
        gated = gates * torch.sigmoid(gates * alpha) * (ups.clamp(-limit, limit) + 1)
        return gated.to(gates_and_ups.dtype)
