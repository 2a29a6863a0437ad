"""Number formats of weights and states: these names stand for them everywhere."""

from __future__ import annotations

from enum import StrEnum

#: Bytes of one number.
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Quantization(StrEnum):
    """How the weights of linear maps are kept, where they are not as wide as the states."""

    INT8 = "int8"
    INT4 = "int4"

    @property
    def of_head(self) -> Quantization:
        """The head's: in four bits it would cost more quality than all else saves memory."""
        return Quantization.INT8


class CacheFormat(StrEnum):
    """How keys and values are kept, where they are not of the states' format."""

    BFLOAT16 = "bfloat16"
    INT8 = "int8"


def head_bytes(width: int, dtype: str, kept: CacheFormat | None) -> int:
    """What the cache takes for one key or value of one head: int8 has a scale of float32."""
    if kept is CacheFormat.INT8:
        return width + ITEM_BYTES["float32"]
    return width * ITEM_BYTES[dtype if kept is None else kept]


#: With the scales: four bits have one of two bytes for 32 numbers.
_QUANTIZED_BYTES = {Quantization.INT8: 1.0, Quantization.INT4: 0.5 + 2 / 32}


def weight_item_bytes(dtype: str, quantization: Quantization | None) -> float:
    """Bytes of one number of a linear map's weights, the head's apart."""
    return ITEM_BYTES[dtype] if quantization is None else _QUANTIZED_BYTES[quantization]
