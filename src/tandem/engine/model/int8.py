"""Linear maps by int8 weights with one scale an output row."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial

import torch
from torch.nn import functional

from tandem.engine.model.fastest import fastest, probe_weights
from tandem.engine.model.operators import join_digits, split_digits, takes

#: How many units of an activation's second digit make one of its first.
_DIGIT = 254.0
#: Digits of both signs as unsigned ones: CPUs with VNNI but no AMX multiply only those.
_ZERO = 128
#: Rows for which the ways to multiply race: one sequence that decodes, and a batch.
_RACED_ROWS = (1, 16)

#: float32 (rows, in_features) of whole numbers in -127..127 → float32 (rows, out_features), the
#: weights' scales applied.
Product = Callable[[torch.Tensor], torch.Tensor]


class QuantizedWeight:
    """int8 (out_features, in_features); the scale of a row is its largest magnitude / 127."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.scales = weight.float().abs().amax(dim=1).clamp(min=1e-8) / 127.0
        self.values = (weight.float() / self.scales[:, None]).round().to(torch.int8).contiguous()


class UnpackedInt8Linear:
    """Turns the weights back into the activations' dtype for every product."""

    def __init__(self, weight: QuantizedWeight, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        scales = self._weight.scales.to(states.dtype)
        weight = self._weight.values.to(states.dtype) * scales[:, None]
        return functional.linear(states, weight, self._bias)


class IntegerLinear:
    """int8 by int8, on CPUs that multiply those: the weights are read as they are.

    Each activation is written as two digits, a row's largest being 127, which keeps 16 bits of it;
    both digits go through one product. Sums of integers are exact, so a row's result does not
    depend on the rows beside it.
    """

    def __init__(self, product: Product, bias: torch.Tensor | None) -> None:
        self._product = product
        self._bias = bias

    @staticmethod
    def is_fast() -> bool:
        """Whether this CPU has the instructions; others could overflow in 16 bits."""
        features = torch.cpu.get_capabilities()
        fast = features.get("avx512_vnni") or features.get("amx_int8")
        return bool(fast) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        if not takes(states.dtype, states.device):
            return self(states.float()).to(states.dtype)
        digits, scales = split_digits(states, _DIGIT)
        result = join_digits(self._product(digits), scales, _DIGIT, states.dtype)
        return result if self._bias is None else result + self._bias


def onednn_product(weight: QuantizedWeight) -> Product:
    """oneDNN's: the faster one on CPUs with AMX."""
    packed = torch.ops.onednn.qlinear_prepack(weight.values, None)
    scales = weight.scales  # not the weight, which would stay in memory beside the packed one
    zeros = torch.zeros(len(scales), dtype=torch.int64)

    def multiply(digits: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            (digits + _ZERO).to(torch.uint8),
            1.0,
            _ZERO,
            packed,
            scales,
            zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return product

    return multiply


def fbgemm_product(weight: QuantizedWeight) -> Product:
    """FBGEMM's: the faster one with few rows on CPUs without AMX."""
    scales, zeros = weight.scales.double(), torch.zeros(len(weight.scales), dtype=torch.int64)
    with warnings.catch_warnings():
        # PyTorch will drop such tensors one day; it has no other way yet into FBGEMM.
        warnings.simplefilter("ignore", UserWarning)
        quantized = torch._make_per_channel_quantized_tensor(  # noqa: SLF001
            weight.values, scales, zeros, 0
        )
    packed = torch.ops.quantized.linear_prepack(quantized, None)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32

    def product(digits: torch.Tensor) -> torch.Tensor:
        multiplied: torch.Tensor = multiply(digits, 1.0, _ZERO, packed)
        return multiplied

    return product


PRODUCTS = {"FBGEMM": fbgemm_product, "oneDNN": onednn_product}


def make_int8_linear(
    weight: torch.Tensor, bias: torch.Tensor | None
) -> IntegerLinear | UnpackedInt8Linear:
    quantized = QuantizedWeight(weight)
    if weight.device.type != "cpu" or not IntegerLinear.is_fast():
        return UnpackedInt8Linear(quantized, bias)
    product = PRODUCTS[_fastest_product(torch.get_num_threads())](quantized)
    return IntegerLinear(product, bias)


@cache
def _fastest_product(threads: int) -> str:  # noqa: ARG001 - the race runs on so many
    weights = [QuantizedWeight(probe) for probe in probe_weights()]
    digits = [torch.ones((2 * rows, weights[0].values.shape[1])) for rows in _RACED_ROWS]
    ways = {
        name: [partial(make(weight), d) for weight in weights for d in digits]
        for name, make in PRODUCTS.items()
    }
    return fastest("int8 product", ways)
