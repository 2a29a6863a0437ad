"""MXFP4 (OCP, 2023) as gpt-oss has it: stacks of experts, in blocks of 32 with a power of two."""

from __future__ import annotations

from collections.abc import Mapping

from tandem.engine.checkpoint.quantized.affine import groups_of
from tandem.engine.checkpoint.quantized.numbers import E2M1, E8M0
from tandem.engine.checkpoint.quantized.streams import stream_tensor
from tandem.engine.checkpoint.quantized.tensor import NIBBLE, QuantizedTensor, Scales
from tandem.engine.checkpoint.schemes.parts import Layout, Part, Parts, Scheme
from tandem.engine.checkpoint.schemes.settings import Settings

GROUP = 32


class Mxfp4(Scheme):
    """`NAME_blocks` and `NAME_scales` are `NAME`: (entries, rows, columns), or one matrix."""

    suffixes: Mapping[str, str] = {"blocks": "_blocks", "scales": "_scales"}
    markers = ("blocks",)
    presents = ""

    def __init__(self, settings: Settings) -> None:
        """It has no settings."""

    def layout(self, parts: Parts) -> Layout:
        *stack, rows, groups, width = parts.shape("blocks", ("U8",), (3, 4))
        if width * 2 != GROUP:
            raise parts.fault("blocks", f"has blocks of {width} bytes; expected {GROUP // 2}")
        parts.expect("scales", ("U8", "F8_E8M0"), (*stack, rows, groups))
        shape = (*stack, rows, groups * GROUP)
        return Layout(shape, NIBBLE, GROUP, minimums=False, label="MXFP4")

    def read(self, parts: Parts, part: Part) -> QuantizedTensor:
        each, groups = groups_of(part.columns, GROUP)
        stream = part.of(parts.array("blocks"))
        scales = E8M0[part.of(parts.array("scales"))[:, groups]]
        stream = stream.reshape(len(stream), -1)
        return stream_tensor(stream, NIBBLE, part.columns, each, Scales(scales), table=E2M1)
