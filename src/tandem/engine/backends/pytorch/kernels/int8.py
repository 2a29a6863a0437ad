"""Linear maps by int8 weights with one scale an output row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from tandem.engine.backends.pytorch.kernels import products
from tandem.engine.backends.pytorch.kernels.arrays import ResultBuffer, as_array, has_loops
from tandem.engine.backends.pytorch.kernels.autotune import (
    SAMPLE_SHAPE,
    SAMPLES,
    Autotuner,
    Call,
    sample_weight,
)
from tandem.engine.backends.pytorch.kernels.dense import linear
from tandem.engine.backends.pytorch.kernels.products import ZERO_POINT, Tiles
from tandem.engine.backends.pytorch.kernels.tiled.codes import group_codes
from tandem.engine.backends.pytorch.kernels.tiled.linear import TiledLinear
from tandem.engine.backends.pytorch.kernels.tiled.vectors import FEATURES, HAS_TILES
from tandem.engine.backends.pytorch.kernels.tiled.weights import TiledCodes
from tandem.engine.backends.pytorch.kernels.tiles import known_tiles
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor, Scales

#: How many units of an activation's low part make one of its high part.
_LOW_UNIT = np.float32(254.0)
#: How rows are multiplied.
COMPILED, ONEDNN = "compiled", "oneDNN"


@dataclass(frozen=True)
class QuantizedActivations:
    """uint8 (2 * rows, width), high parts before low ones, and the scale of each row.

    See `products.quantize_activations`.
    """

    values: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    low_unit: np.float32

    @classmethod
    def of(cls, states: torch.Tensor, low_unit: np.float32) -> QuantizedActivations:
        rows, width = states.shape
        values, scales = np.empty((2 * rows, width), np.uint8), np.empty(rows, np.float32)
        products.quantize_activations(as_array(states), low_unit, values, scales)
        return cls(values, scales, low_unit)


def multiply_int8(
    activations: QuantizedActivations,
    tiles: Tiles,
    zeros: npt.NDArray[np.int32],
    outputs: torch.Tensor,
    joined: torch.Tensor,
) -> torch.Tensor:
    products.multiply_int8(
        tiles,
        activations.values.view(np.int32),
        zeros,
        outputs.numpy(),
        activations.low_unit,
        activations.scales,
        as_array(joined),
    )
    return joined


def dequantize_products(
    activations: QuantizedActivations, multiplied: torch.Tensor, joined: torch.Tensor
) -> torch.Tensor:
    products.dequantize_products(
        multiplied.numpy(), activations.low_unit, activations.scales, as_array(joined)
    )
    return joined


class QuantizedWeight:
    """int8 (out_features, in_features); the scale of a row is its largest magnitude / 127."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.scales = weight.float().abs().amax(dim=1).clamp(min=1e-8) / 127.0
        self.values = (weight.float() / self.scales[:, None]).round().to(torch.int8).contiguous()

    def tensor(self) -> QuantizedTensor:
        """The same as what a file could have held."""
        codes, scales = self.values.numpy(), Scales(self.scales[:, None].numpy())
        return QuantizedTensor(codes, bits=8, group=codes.shape[1], scales=scales)


class UnpackedInt8Linear:
    """Turns the weights back into the activations' dtype for every product."""

    def __init__(self, weight: QuantizedWeight, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        # Each of the integers is a bfloat16; the scales would be rounded.
        product = linear(states, self._weight.values.to(states.dtype), None, dtype)
        result = product * self._weight.scales
        return (result if self._bias is None else result + self._bias).to(product.dtype)


class PackedInt8:
    """A `QuantizedWeight` in the blocks that oneDNN reads fastest; it does not keep that one."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self.scales = weight.scales
        self._blocks = torch.ops.onednn.qlinear_prepack(weight.values, None)
        self._weight_zero_points = torch.zeros(len(weight.scales), dtype=torch.int64)
        self.tiles = known_tiles(self._blocks, weight.values)
        sums = weight.values.sum(dim=1, dtype=torch.int32)
        self._zeros = (sums * ZERO_POINT).numpy()

    def multiply(self, activations: QuantizedActivations, joined: torch.Tensor) -> torch.Tensor:
        """By oneDNN, into (rows, out_features)."""
        product = torch.ops.onednn.qlinear_pointwise(
            torch.from_numpy(activations.values),
            1.0,
            ZERO_POINT,
            self._blocks,
            self.scales,
            self._weight_zero_points,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return dequantize_products(activations, product, joined)

    def multiply_tiles(
        self, activations: QuantizedActivations, joined: torch.Tensor
    ) -> torch.Tensor:
        """By compiled loops, where `tiles` are known."""
        assert self.tiles is not None, "loops can only read tiles in the known order"
        return multiply_int8(activations, self.tiles, self._zeros, self.scales, joined)


class IntegerLinear:
    """int8 by int8, on CPUs that multiply those: the weights are read as they are.

    Each activation is quantized to two int8 parts, a row's largest being 127, which keeps 16 bits
    of it; both parts go through one product. Sums of integers are exact, so a row's result does not
    depend on the rows beside it.
    """

    def __init__(self, weight: PackedInt8, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias
        self._results = ResultBuffer()
        _tuner.tune()

    @staticmethod
    def is_fast() -> bool:
        """Whether this CPU has the instructions; others could overflow in 16 bits."""
        packs: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return "+avx512vnni" in FEATURES and packs

    def __call__(self, states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        if not has_loops(states.dtype, states.device):
            return self(states.float()).to(dtype or states.dtype)
        joined = self._results.empty((len(states), len(self._weight.scales)), states, dtype)
        compiled = self._weight.tiles is not None and _tuner.kernel(len(states)) == COMPILED
        multiply = self._weight.multiply_tiles if compiled else self._weight.multiply
        result = multiply(QuantizedActivations.of(states, _LOW_UNIT), joined)
        return result if self._bias is None else result + self._bias


def make_int8_linear(
    weight: torch.Tensor, bias: torch.Tensor | None, *, in_tiles: bool = False
) -> IntegerLinear | TiledLinear | UnpackedInt8Linear:
    """`in_tiles` of our own wherever those can be, which experts share calls by."""
    quantized = QuantizedWeight(weight)
    if weight.device.type != "cpu":
        return UnpackedInt8Linear(quantized, bias)
    if IntegerLinear.is_fast() and not (in_tiles and HAS_TILES):
        return IntegerLinear(PackedInt8(quantized), bias)
    codes = group_codes(quantized.tensor()) if HAS_TILES else None
    if codes is None:
        return UnpackedInt8Linear(quantized, bias)
    return TiledLinear(TiledCodes(codes), bias)


def _sample_weights() -> list[PackedInt8]:
    weight = QuantizedWeight(sample_weight())
    return [PackedInt8(weight) for _ in range(SAMPLES)]


def _candidates(rows: int, weights: list[PackedInt8]) -> dict[str, list[Call]]:
    activations = QuantizedActivations.of(torch.ones((rows, SAMPLE_SHAPE[1])), _LOW_UNIT)
    joined = torch.empty((rows, SAMPLE_SHAPE[0]))
    known = [weight for weight in weights if weight.tiles is not None]
    kernels: dict[str, list[Call]] = {}
    if known:
        kernels[COMPILED] = [
            partial(weight.multiply_tiles, activations, joined) for weight in known
        ]
    kernels[ONEDNN] = [partial(weight.multiply, activations, joined) for weight in weights]
    return kernels


_tuner = Autotuner("int8", (1, 4, 8, 16), _sample_weights, _candidates, beyond=ONEDNN)
