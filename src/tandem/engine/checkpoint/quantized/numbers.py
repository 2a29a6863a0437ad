"""Numbers as files pack them: streams of bits, and the small floating-point formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.quantized.tensor import BYTE, NIBBLE, Floats

Bytes = npt.NDArray[np.uint8]

#: What GGUF's IQ4 codes stand for: the closer together the nearer to zero, where most weights are.
UNEVEN = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def float32(numbers: npt.NDArray[Any], dtype: str) -> Floats:
    """The same numbers in float32, in memory of their own; of float64 the nearest ones.

    `dtype` is what `StoredTensor` calls theirs. What NumPy has no type for is unsigned integers.
    """
    if dtype == "bfloat16":
        widened: Floats = (numbers.astype(np.uint32) << 16).view(np.float32)
        return widened
    if dtype in SMALL_FLOATS:
        small: Floats = SMALL_FLOATS[dtype][numbers]
        return small
    return np.array(numbers, np.float32)


def unpacked(stream: Bytes, bits: int) -> Bytes:
    """(rows, bytes), each row a stream of codes of `bits`, lowest bits first → (rows, codes).

    The rows are multiples of `bits` bytes, which hold eight codes.
    """
    rows = len(stream)
    if bits == BYTE:
        return stream
    if bits == NIBBLE:
        return np.stack((stream & 0x0F, stream >> 4), axis=-1).reshape(rows, -1)
    eights = stream.reshape(rows, -1, bits)
    codes = np.empty((rows, eights.shape[1], 8), np.uint8)
    for number in range(8):
        byte, shift = divmod(number * bits, 8)
        code = eights[..., byte] >> shift
        if shift + bits > 8:
            code = code | eights[..., byte + 1] << (8 - shift)
        codes[..., number] = code & (2**bits - 1)
    return codes.reshape(rows, -1)


def nibbles(codes: Bytes) -> Bytes:
    """(rows, columns) codes below 16 → (rows, columns / 2), the even column in the low half."""
    return np.asarray(codes[:, ::2] | codes[:, 1::2] << 4, np.uint8)


def as_bytes(words: npt.NDArray[Any]) -> Bytes:
    """(rows, words) integers → (rows, bytes), the lowest first."""
    return np.ascontiguousarray(words).view(np.uint8)


def _small_floats(exponent_bits: int, mantissa_bits: int) -> Floats:
    """Every code's number, as of IEEE formats of such a width without a meaning of its own for any.

    The sign stands in front, the smallest exponent is that of subnormal numbers.
    """
    codes = np.arange(2 ** (1 + exponent_bits + mantissa_bits))
    mantissas = codes % 2**mantissa_bits
    exponents = codes >> mantissa_bits & 2**exponent_bits - 1
    bias = 2 ** (exponent_bits - 1) - 1
    significands = mantissas + np.where(exponents > 0, 2**mantissa_bits, 0)
    powers = np.maximum(exponents, 1) - bias - mantissa_bits
    signs = np.where(codes >> (exponent_bits + mantissa_bits), -1.0, 1.0)
    numbers: Floats = np.ldexp(signs * significands, powers).astype(np.float32)
    return numbers


def _e4m3() -> Floats:
    """Without infinities: the largest code of either sign is no number."""
    numbers = _small_floats(4, 3)
    numbers[[0x7F, 0xFF]] = np.nan
    return numbers


def _e5m2() -> Floats:
    numbers = _small_floats(5, 2)
    numbers[[0x7C, 0xFC]] = np.inf, -np.inf
    numbers[[0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF]] = np.nan
    return numbers


#: Of four bits, as MXFP4 and NVFP4 have them.
E2M1 = _small_floats(2, 1)
#: Powers of two, and no number.
E8M0 = np.append(np.ldexp(1.0, np.arange(-127, 128)), np.nan).astype(np.float32)
#: Formats of eight bits by the names that safetensors has for them.
SMALL_FLOATS = {"F8_E4M3": _e4m3(), "F8_E5M2": _e5m2(), "F8_E8M0": E8M0}
