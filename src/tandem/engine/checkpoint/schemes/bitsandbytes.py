"""bitsandbytes: NF4 and FP4 in blocks of a matrix as one row (Dettmers et al., 2023), and int8."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from tandem.engine.checkpoint.quantized.numbers import as_bytes, nibbles, unpacked
from tandem.engine.checkpoint.quantized.tensor import (
    BYTE,
    NIBBLE,
    Floats,
    QuantizedTensor,
    Scales,
)
from tandem.engine.checkpoint.schemes.parts import WIDE, Layout, Part, Parts, Scheme
from tandem.engine.checkpoint.schemes.settings import Settings

_STATE = ".weight.quant_state.bitsandbytes__"
_MOST_STATE_BYTES = 2**16
_MOST_IN_A_BLOCK = 2**16
#: What a row's largest number was made of; the library multiplies by this.
_STEP = np.float32(1 / 127)


class _Stated(msgspec.Struct, frozen=True):
    load_in_8bit: bool = False


class _State(msgspec.Struct, frozen=True):
    """As JSON in a tensor of bytes."""

    shape: tuple[int, int]
    blocksize: Annotated[int, Meta(le=_MOST_IN_A_BLOCK)]
    nested_blocksize: Annotated[int, Meta(le=_MOST_IN_A_BLOCK)] = 0
    nested_offset: float = 0.0


def bitsandbytes(settings: Settings) -> Scheme:
    return Int8(settings) if settings.read(_Stated).load_in_8bit else FourBits(settings)


class FourBits(Scheme):
    """Blocks go on over the ends of rows. Their scales may be quantised too."""

    suffixes: Mapping[str, str] = {
        "nf4": f"{_STATE}nf4",
        "fp4": f"{_STATE}fp4",
        "weight": ".weight",
        "absmax": ".weight.absmax",
        "map": ".weight.quant_map",
        "nested_absmax": ".weight.nested_absmax",
        "nested_map": ".weight.nested_quant_map",
    }
    markers = ("nf4", "fp4")

    def __init__(self, settings: Settings) -> None:
        """What matters of its settings each matrix has itself."""

    def layout(self, parts: Parts) -> Layout:
        state, role = _state(parts)
        count = math.prod(state.shape)
        parts.shape("weight", ("U8", *WIDE), (2,))  # as columns of wider numbers too
        if parts.array("weight").nbytes != -(-count // 2):
            raise parts.fault("weight", f"has not the bytes of {list(state.shape)}")
        blocks = -(-count // state.blocksize)
        parts.expect("map", ("float32",), (16,))
        if "nested_absmax" in parts and "nested_map" in parts:
            parts.expect("absmax", ("U8",), (blocks,))
            parts.expect("nested_map", ("float32",), (256,))
            if state.nested_blocksize < 1:
                raise parts.fault(role, "has no nested_blocksize above 0")
            parts.expect("nested_absmax", ("float32",), (-(-blocks // state.nested_blocksize),))
        else:
            parts.expect("absmax", ("float32",), (blocks,))
        group = math.gcd(state.blocksize, state.shape[1])
        bits = BYTE if state.shape[1] % 2 else NIBBLE
        label = f"bitsandbytes {role.upper()}, blocks of {state.blocksize}"
        return Layout(state.shape, bits, group, minimums=False, label=label)

    def read(self, parts: Parts, part: Part) -> QuantizedTensor:
        state, _ = _state(parts)
        columns = state.shape[1]
        first, last = part.rows.start * columns, part.rows.stop * columns
        stored = as_bytes(parts.array("weight").reshape(1, -1))[:, first // 2 : -(-last // 2)]
        swapped = as_bytes(stored >> 4 | stored << 4)  # the first of two is the upper half
        start = first // 2 * 2
        codes = unpacked(swapped, NIBBLE)[0, first - start : last - start]
        codes = np.ascontiguousarray(codes.reshape(-1, columns)[:, part.width])
        group = math.gcd(state.blocksize, columns, part.columns.start, part.columns.stop)
        rows = np.arange(part.rows.start, part.rows.stop)[:, None] * columns
        places = rows + np.arange(part.columns.start, part.columns.stop, group)
        scales = Scales(_absmax(parts, state)[places // state.blocksize])
        table = parts.floats("map")
        if codes.shape[1] % 2:
            wide = np.zeros(256, np.float32)
            wide[:16] = table
            return QuantizedTensor(codes, BYTE, group, scales, table=wide)
        return QuantizedTensor(nibbles(codes), NIBBLE, group, scales, table=table)


def _state(parts: Parts) -> tuple[_State, str]:
    """Raises CheckpointError for one that says no such thing."""
    role = "nf4" if "nf4" in parts else "fp4"
    if math.prod(parts.shape(role, ("U8",), (1,))) > _MOST_STATE_BYTES:
        raise parts.fault(role, "is too long for what it is to say")
    try:
        state = msgspec.json.decode(parts.array(role).tobytes(), type=_State)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise parts.fault(role, f"cannot be read: {error}") from error
    if min(*state.shape, state.blocksize) < 1:
        raise parts.fault(role, f"says {state}")
    return state, role


def _absmax(parts: Parts, state: _State) -> Floats:
    """A scale a block."""
    if "nested_absmax" not in parts:
        return parts.floats("absmax")
    codes = parts.array("absmax")
    outer = parts.floats("nested_absmax")[np.arange(len(codes)) // state.nested_blocksize]
    return parts.floats("nested_map")[codes] * outer + np.float32(state.nested_offset)


class Int8(Scheme):
    """LLM.int8 (Dettmers et al., 2022): rows by their largest numbers."""

    suffixes: Mapping[str, str] = {"SCB": ".SCB", "weight": ".weight"}
    markers = ("SCB",)
    ignored = (".weight_format",)

    def __init__(self, settings: Settings) -> None:
        """It has none that matter here."""

    def layout(self, parts: Parts) -> Layout:
        rows, columns = parts.shape("weight", ("I8",), (2,))
        parts.expect("SCB", WIDE, (rows,))
        return Layout((rows, columns), BYTE, columns, minimums=False, label="bitsandbytes int8")

    def read(self, parts: Parts, part: Part) -> QuantizedTensor:
        codes = parts.array("weight")[part.height, part.width].copy()
        scales = parts.floats("SCB", (part.height,)) * _STEP
        return QuantizedTensor(codes, BYTE, len(part.columns), Scales(scales[:, None]))
