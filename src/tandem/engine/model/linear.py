"""Linear maps: in the model's own dtype, or with int8 weights and one scale an output row."""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn import functional

#: PyTorch's own compiler calls these; they have no public name.
_mkldnn = torch.ops.mkldnn
#: What the second digit of an activation is worth, in units of the first.
_DIGIT = 254.0
_TINIEST = 1e-30
#: For which oneDNN chooses its blocks; it takes any number.
_USUAL_ROWS = 16


class Linear(Protocol):
    """(tokens, in_features) → (tokens, out_features), dtype kept."""

    def __call__(self, states: torch.Tensor) -> torch.Tensor: ...


class DenseLinear:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias
        # One row of bfloat16 is read a fifth faster as a vector; float32 stays the same to the
        # bit whatever runs beside it.
        self._as_vector = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        if self._as_vector and len(states) == 1:
            product = torch.mv(self._weight, states[0])[None]
            return product if self._bias is None else product + self._bias
        return functional.linear(states, self._weight, self._bias)


class PackedLinear:
    """bfloat16 in the blocks that oneDNN reads fastest, instead of rows: a sixth less time."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = _mkldnn._reorder_linear_weight(weight, _USUAL_ROWS)  # noqa: SLF001
        self._bias = bias

    @staticmethod
    def is_fast() -> bool:
        supported: bool = _mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001
        return supported

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = _mkldnn._linear_pointwise(  # noqa: SLF001
            states, self._weight, self._bias, "none", [], ""
        )
        return product


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

    def __init__(self, weight: QuantizedWeight, bias: torch.Tensor | None) -> None:
        self._weight = torch.ops.onednn.qlinear_prepack(weight.values, None)
        self._scales = weight.scales
        self._zeros = torch.zeros(len(weight.scales), dtype=torch.int64)
        self._bias = bias

    @staticmethod
    def is_fast() -> bool:
        """Whether this CPU has the instructions; others could overflow in 16 bits."""
        features = torch.cpu.get_capabilities()
        fast = features.get("avx512_vnni") or features.get("amx_int8")
        return bool(fast) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        rows = len(states)
        wide = states.float()
        scales = wide.abs().amax(dim=1, keepdim=True).clamp(min=_TINIEST) / 127.0
        wide = wide / scales
        high = wide.round()
        low = (wide - high).mul_(_DIGIT).round_()
        product = self._multiply(torch.cat((high, low)).to(torch.int8))
        whole = torch.add(product[:rows], product[rows:], alpha=1.0 / _DIGIT)
        result = whole.mul_(scales).to(states.dtype)
        return result if self._bias is None else result + self._bias

    def _multiply(self, digits: torch.Tensor) -> torch.Tensor:
        """int8 (rows, in_features) → float32 (rows, out_features), the weights' scales applied."""
        product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            digits,
            1.0,
            0,
            self._weight,
            self._scales,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return product


def make_linear(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    quantize: str | None,
    *,
    shared: bool = False,
) -> Linear:
    """`shared`: the weight stays as it is, for others to read; a copy would cost its memory."""
    on_cpu = weight.device.type == "cpu"
    if quantize == "int8":
        quantized = QuantizedWeight(weight)
        fast = on_cpu and IntegerLinear.is_fast()
        return (IntegerLinear if fast else UnpackedInt8Linear)(quantized, bias)
    packs = on_cpu and weight.dtype == torch.bfloat16 and not shared
    return (PackedLinear if packs and PackedLinear.is_fast() else DenseLinear)(weight, bias)
