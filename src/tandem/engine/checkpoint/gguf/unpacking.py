"""What the bytes of a block mean, for each type of few bits a number.

Every function takes uint8 (blocks, nbytes), contiguous. Integers of fewer than eight bits lie by
shares: the low bits of a run of bytes are one run of columns, the next bits the next run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.quantized.tensor import BYTE

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Parts(NamedTuple):
    """A number is code x scale + minimum, in groups of a block's columns.

    Codes of four bits are packed as `QuantizedTensor` has them, (blocks, columns / 2), others
    (blocks, columns). `scale` and `minimum` are float32 (blocks, 1), their `inner` factors integers
    (blocks, groups).
    """

    codes: npt.NDArray[Any]
    scale: Floats
    inner_scale: npt.NDArray[Any] | None = None
    minimum: Floats | None = None
    inner_minimum: npt.NDArray[Any] | None = None


def q4_0(blocks: Bytes) -> Parts:
    return Parts(_nibbles(_cut(blocks, 2, 18), 16), _half(blocks, 0))


def q4_1(blocks: Bytes) -> Parts:
    return Parts(_nibbles(_cut(blocks, 4, 20), 16), _half(blocks, 0), minimum=_half(blocks, 2))


def q5_0(blocks: Bytes) -> Parts:
    codes = _shares(_cut(blocks, 6, 22), 16, 4) | _ones(_cut(blocks, 2, 6)) << 4
    return Parts(_less(codes, 16), _half(blocks, 0))


def q5_1(blocks: Bytes) -> Parts:
    codes = _shares(_cut(blocks, 8, 24), 16, 4) | _ones(_cut(blocks, 4, 8)) << 4
    return Parts(codes.view(np.int8), _half(blocks, 0), minimum=_half(blocks, 2))


def q8_0(blocks: Bytes) -> Parts:
    return Parts(_cut(blocks, 2, 34).view(np.int8), _half(blocks, 0))


def q2_k(blocks: Bytes) -> Parts:
    factors, codes = _cut(blocks, 0, 16), _shares(_cut(blocks, 16, 80), 32, 2)
    return Parts(
        codes.view(np.int8), _half(blocks, 80), factors & 15, -_half(blocks, 82), factors >> 4
    )


def q3_k(blocks: Bytes) -> Parts:
    codes = _shares(_cut(blocks, 32, 96), 32, 2) | _shares(_cut(blocks, 0, 32), 32, 1) << 2
    low, high = _shares(_cut(blocks, 96, 104), 8, 4), _shares(_cut(blocks, 104, 108), 4, 2)
    return Parts(_less(codes, 4), _half(blocks, 108), _less(low | high << 4, 32))


def q4_k(blocks: Bytes) -> Parts:
    factors, minimums = _six_bits(_cut(blocks, 4, 16))
    codes = _nibbles(_cut(blocks, 16, 144), 32)
    return Parts(codes, _half(blocks, 0), factors, -_half(blocks, 2), minimums)


def q5_k(blocks: Bytes) -> Parts:
    factors, minimums = _six_bits(_cut(blocks, 4, 16))
    codes = _shares(_cut(blocks, 48, 176), 32, 4) | _shares(_cut(blocks, 16, 48), 32, 1) << 4
    return Parts(codes.view(np.int8), _half(blocks, 0), factors, -_half(blocks, 2), minimums)


def q6_k(blocks: Bytes) -> Parts:
    codes = _shares(_cut(blocks, 0, 128), 64, 4) | _shares(_cut(blocks, 128, 192), 32, 2) << 4
    return Parts(_less(codes, 32), _half(blocks, 208), _cut(blocks, 192, 208).view(np.int8))


def q8_k(blocks: Bytes) -> Parts:
    """Sums of the codes follow, which make products faster."""
    return Parts(_cut(blocks, 4, 260).view(np.int8), _cut(blocks, 0, 4).view("<f4"))


def iq4_xs(blocks: Bytes) -> Parts:
    high = _cut(blocks, 2, 4).view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    low = _cut(blocks, 4, 8)[:, :, None] >> np.array([0, 4], np.uint8) & 15
    factors = low.reshape(len(blocks), 8) | high.astype(np.uint8) << 4
    return Parts(_nibbles(_cut(blocks, 8, 136), 16), _half(blocks, 0), _less(factors, 32))


def tq1_0(blocks: Bytes) -> Parts:
    """Five digits of base three a byte, the first of them in its highest part."""
    runs = []
    for start, stop, powers in ((0, 32, 5), (32, 48, 5), (48, 52, 4)):
        weights = (3 ** np.arange(powers)).astype(np.uint8)[:, None]
        run = blocks[:, None, start:stop] * weights
        runs.append(run.reshape(len(blocks), -1))
    digits = np.concatenate(runs, axis=1).astype(np.uint16) * 3 >> 8
    return Parts(_less(digits.astype(np.uint8), 1), _half(blocks, 52))


def tq2_0(blocks: Bytes) -> Parts:
    return Parts(_less(_shares(_cut(blocks, 0, 64), 32, 2), 1), _half(blocks, 64))


def mxfp4(blocks: Bytes) -> Parts:
    """The scale is a power of two, halved since the table has doubled numbers."""
    exponents = blocks[:, :1].astype(np.int32) - 128
    return Parts(_nibbles(_cut(blocks, 1, 17), 16), np.ldexp(np.float32(1), exponents))


def _cut(blocks: Bytes, start: int, stop: int) -> Bytes:
    """Some bytes of each block, contiguous. A run of bytes is copied faster as one item."""
    width = stop - start
    return blocks[:, start:stop].view(f"V{width}").copy().view(np.uint8).reshape(-1, width)


def _half(blocks: Bytes, at: int) -> Floats:
    return _cut(blocks, at, at + 2).view("<f2").astype(np.float32)


def _less(codes: npt.NDArray[Any], zero: int) -> npt.NDArray[np.int8]:
    return codes.view(np.int8) - np.int8(zero)


def _shares(data: Bytes, run: int, bits: int) -> Bytes:
    """(blocks, n) bytes → (blocks, n * 8 / bits) integers of so many bits."""
    mask = np.uint8((1 << bits) - 1)
    shares = np.empty((data.size // run, BYTE // bits), f"V{run}")
    for share in range(BYTE // bits):
        shares[:, share] = (data >> np.uint8(share * bits) & mask).view(f"V{run}").reshape(-1)
    return shares.view(np.uint8).reshape(len(data), -1)


def _ones(data: Bytes) -> Bytes:
    """The bits of each block's bytes, one column each."""
    return np.unpackbits(data.reshape(-1), bitorder="little").reshape(len(data), -1)


def _nibbles(data: Bytes, run: int) -> Bytes:
    """Halves of a byte from run after run to column after column, still two in a byte."""
    pairs = data.view("<u2")
    low = (pairs & 0x0F | pairs >> 4 & 0xF0).astype(np.uint8)
    high = (pairs >> 4 & 0x0F | pairs >> 8 & 0xF0).astype(np.uint8)
    half = f"V{run // 2}"
    codes = np.empty((data.size // run, 2), half)
    codes[:, 0], codes[:, 1] = low.view(half).reshape(-1), high.view(half).reshape(-1)
    return codes.view(np.uint8).reshape(len(data), -1)


def _six_bits(data: Bytes) -> tuple[Bytes, Bytes]:
    """Eight factors of the scale and eight of the minimum, of six bits each in twelve bytes.

    Four of each have bytes of their own, whose upper two bits are those of the other four.
    """
    scales, minimums, rest = data.view("<u4").T
    low, six, upper = np.uint32(0x0F0F0F0F), np.uint32(0x3F3F3F3F), np.uint32(0x30303030)
    factors = np.stack((scales & six, rest & low | scales >> 2 & upper), axis=1)
    others = np.stack((minimums & six, rest >> 4 & low | minimums >> 2 & upper), axis=1)
    return factors.view(np.uint8), others.view(np.uint8)
