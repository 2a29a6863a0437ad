"""MLX's own quantisation, as mlx-lm saves it: words of 2 to 8 bits, scales, and biases.

Embeddings are quantised too, and experts stacked: those are presented one by one, as others have
them. A module may have settings of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from tandem.engine.checkpoint.quantized.affine import code_bits, groups_of
from tandem.engine.checkpoint.quantized.numbers import E2M1, SMALL_FLOATS, as_bytes, float32
from tandem.engine.checkpoint.quantized.streams import stream_tensor
from tandem.engine.checkpoint.quantized.tensor import Floats, QuantizedTensor, Scales
from tandem.engine.checkpoint.schemes.parts import WIDE, Layout, Part, Parts, Scheme
from tandem.engine.checkpoint.schemes.settings import Settings

_WORD = 32
_AFFINE_WIDTHS = (2, 3, 4, 5, 6, 8)


class _Mode(NamedTuple):
    """`table` says what codes mean, `scales` what dtype theirs are."""

    bits: int
    group: int
    table: Floats
    scales: str


_MODES = {
    "mxfp4": _Mode(4, 32, E2M1, "F8_E8M0"),
    "mxfp8": _Mode(8, 32, SMALL_FLOATS["F8_E4M3"], "F8_E8M0"),
    "nvfp4": _Mode(4, 16, E2M1, "F8_E4M3"),
}
#: A stack of experts' matrices, and each one's name elsewhere.
_STACK = ".switch_mlp."
_EXPERTS = {"gate_proj": "gate_proj", "up_proj": "up_proj", "down_proj": "down_proj"}
_MIXTRALS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}


class _Stated(msgspec.Struct, frozen=True):
    bits: int = 4
    group_size: int = 64
    mode: str = "affine"


class Mlx(Scheme):
    suffixes: Mapping[str, str] = {"scales": ".scales", "weight": ".weight", "biases": ".biases"}
    markers = ("scales",)

    def __init__(self, settings: Settings) -> None:
        """Raises CheckpointError for a width, a group or a mode that is none of these."""
        self._stated = self._checked(settings)
        self._modules = {
            name: self._checked(settings.inner(name))
            for name, value in settings.values.items()
            if isinstance(value, dict)
        }

    def names(self, parts: Parts, layout: Layout) -> Iterator[tuple[str, int | None]]:
        before, stack, own = parts.stem.rpartition(_STACK)
        if not stack or own not in _EXPERTS or len(layout.shape) != 3:
            yield parts.stem + self.presents, None
            return
        name = (_MIXTRALS if before.endswith("block_sparse_moe") else _EXPERTS)[own]
        for number in range(layout.shape[0]):
            yield f"{before}.experts.{number}.{name}.weight", number

    def layout(self, parts: Parts) -> Layout:
        stated = self._of(parts)
        *stack, rows, words = parts.shape("weight", ("U32",), (2, 3))
        columns = words * _WORD // stated.bits
        if words * _WORD % stated.bits or columns % stated.group_size:
            raise parts.fault("weight", f"has {words} words, not for {stated}")
        groups = (*stack, rows, columns // stated.group_size)
        affine = stated.mode == "affine"
        parts.expect("scales", WIDE if affine else ("U8",), groups)
        if affine:
            parts.expect("biases", WIDE, groups)
        elif "biases" in parts:
            raise parts.fault("biases", f"means nothing in mode {stated.mode}")
        label = f"MLX {stated.mode}, {stated.bits} bits, groups of {stated.group_size}"
        shape = (*stack, rows, columns)
        return Layout(shape, code_bits(stated.bits, columns), stated.group_size, affine, label)

    def read(self, parts: Parts, part: Part) -> QuantizedTensor:
        stated = self._of(parts)
        each, groups = groups_of(part.columns, stated.group_size)
        stream = as_bytes(part.of(parts.array("weight")))

        def numbers(role: str, dtype: str) -> Scales:
            return Scales(float32(part.of(parts.array(role))[:, groups], dtype))

        if stated.mode == "affine":
            table = None
            scales = numbers("scales", parts.dtype("scales"))
            biases = numbers("biases", parts.dtype("biases"))
        else:
            biases, mode = None, _MODES[stated.mode]
            table, scales = mode.table, numbers("scales", mode.scales)
        return stream_tensor(stream, stated.bits, part.columns, each, scales, biases, table)

    def _of(self, parts: Parts) -> _Stated:
        return self._modules.get(parts.stem, self._stated)

    def _checked(self, settings: Settings) -> _Stated:
        stated = settings.read(_Stated)
        if stated.mode in _MODES:
            known = _MODES[stated.mode]
            if (stated.bits, stated.group_size) != (known.bits, known.group):
                found = f"bits {stated.bits}, group_size {stated.group_size}"
                wanted = f"bits {known.bits}, group_size {known.group}"
                raise settings.unsupported("mode", f"{stated.mode}, {found}", wanted)
        elif stated.mode != "affine":
            raise settings.unsupported("mode", stated.mode, f"affine, {', '.join(_MODES)}")
        if stated.bits not in _AFFINE_WIDTHS:
            raise settings.unsupported("bits", stated.bits, f"one of {_AFFINE_WIDTHS}")
        if stated.group_size < 8 or stated.group_size % 8:
            raise settings.unsupported("group_size", stated.group_size, "a multiple of 8")
        return stated
