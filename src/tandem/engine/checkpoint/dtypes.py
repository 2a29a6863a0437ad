"""Number formats of weights and states: these names stand for them everywhere."""

from __future__ import annotations

from enum import StrEnum

#: Bytes of one number.
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Quantization(StrEnum):
    """How the weights of linear maps are kept, where they are not as wide as the states."""

    INT8 = "int8"


_QUANTIZED_BYTES = {Quantization.INT8: 1}


def weight_item_bytes(dtype: str, quantization: Quantization | None) -> int:
    """Bytes of one number of a linear map's weights."""
    return ITEM_BYTES[dtype] if quantization is None else _QUANTIZED_BYTES[quantization]
