"""Whole vector registers in LLVM's terms, for what has no name in numba, and what this machine has.

Compiled for x86 with AVX2 or AVX-512, for ARM, and, more slowly, for whatever LLVM knows.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, codegen

WORD, ADDRESS, SHORT, BYTE = (ir.IntType(bits) for bits in (32, 64, 16, 8))
FLOAT = ir.FloatType()

binding.initialize_native_asmparser()  # for the instructions that are written by name
_untyped: Any = codegen
#: What numba compiles for: this machine, unless its environment variables say otherwise.
FEATURES = frozenset(
    str(_untyped.config.CPU_FEATURES or _untyped.get_host_cpu_features()).split(",")
)
_MACHINE = platform.machine().lower()
X86 = _MACHINE in {"x86_64", "amd64"}
#: Whether loops over tiles can be compiled; an x86 without these has no fast ones.
HAS_TILES = not X86 or {"+avx2", "+fma", "+f16c"} <= FEATURES
#: Whether a vector of bytes can be looked up in a table of sixteen.
HAS_SHUFFLES = X86 or _MACHINE in {"aarch64", "arm64"}


#: Of weights that are numbers, not codes.
NUMBER_BITS = 16


@dataclass(frozen=True)
class Width:
    """Vectors of so many words of 32 bits, and of how many of them a tile's words consist.

    Of weights that are numbers, and of codes, four numbers of rows may share a pass over weights,
    the fewest first: their sums are in registers. One row, and the next number, take several tiles
    at a time, or each sum would wait for the one before.
    """

    lanes: int
    vectors: int
    number_rows: tuple[int, int, int, int]
    code_rows: tuple[int, int, int, int]

    @property
    def outputs(self) -> int:
        """Of a tile."""
        return self.lanes * self.vectors

    def tiles(self, rows: int, bits: int) -> int:
        """How many are multiplied at a time: sums of numbers take longer than those of codes."""
        sums = 8 if bits == NUMBER_BITS else 4
        return max(1, sums // self.vectors // rows)


#: By what they are of: 512 bits, 256 bits, and 128 bits of which there are twice as many.
ZMM = Width(16, 2, (1, 2, 4, 8), (1, 2, 4, 8))
YMM = Width(8, 2, (1, 2, 4, 6), (1, 2, 4, 4))
NEON = Width(4, 4, (1, 2, 4, 5), (1, 2, 4, 4))
#: What suits this machine.
WIDTH = (ZMM if "+avx512bw" in FEATURES else YMM) if X86 else NEON


class Vectors:
    """Emits operations on vectors of so many lanes of 32 bits."""

    def __init__(self, builder: Any, lanes: int) -> None:  # noqa: ANN401 - a type of llvmlite's
        self.builder, self.lanes, self.bytes = builder, lanes, 4 * lanes
        self.words, self.floats = (ir.VectorType(kind, lanes) for kind in (WORD, FLOAT))
        self.shorts, self.octets = ir.VectorType(SHORT, 2 * lanes), ir.VectorType(BYTE, 4 * lanes)

    def at(self, base: Any, offset: int, kind: Any) -> Any:  # noqa: ANN401
        place = self.builder.add(base, number(offset))
        return self.builder.inttoptr(place, ir.PointerType(kind))

    def load(self, base: Any, offset: int, kind: Any) -> Any:  # noqa: ANN401
        return self.builder.load(self.at(base, offset, kind), align=1)

    def store(self, vector: Any, base: Any, offset: int) -> None:  # noqa: ANN401
        self.builder.store(vector, self.at(base, offset, vector.type), align=4)

    def filled(self, kind: Any, value: int) -> Any:  # noqa: ANN401
        return ir.Constant(kind, [value] * kind.count)

    def everywhere(self, base: Any, offset: int, kind: Any) -> Any:  # noqa: ANN401
        """The number there, in all lanes of a vector of this kind."""
        scalar = self.load(base, offset, kind.element)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(WORD, 0))
        return self.builder.shuffle_vector(first, undefined, self.filled(self.words, 0))

    def fused(self, one: Any, other: Any, sums: Any) -> Any:  # noqa: ANN401
        """one * other + sums, rounded once."""
        return self._call(f"llvm.fma.v{self.lanes}f32", self.floats, one, other, sums)

    def halves(self, pairs: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """Words that are two bfloat16 as their first and their second numbers."""
        first = self.builder.shl(pairs, self.filled(self.words, 16))
        second = self.builder.and_(pairs, self.filled(self.words, -65536))
        return tuple(self.builder.bitcast(half, self.floats) for half in (first, second))

    def field(self, words: Any, place: int, bits: int) -> Any:  # noqa: ANN401
        """Of each of the vector's shorts, so many bits from that place on."""
        last = (place + 1) * bits == SHORT.width
        if place:
            words = self.builder.lshr(words, self.filled(self.shorts, place * bits))
        if not last:
            words = self.builder.and_(words, self.filled(self.shorts, (1 << bits) - 1))
        return words

    def looked_up(self, table: Any, shorts: Any) -> Any:  # noqa: ANN401
        """The table's byte for each number below 16; of number 0 it must be 0."""
        index = self.builder.bitcast(shorts, self.octets)
        names = {16: "avx512.pshuf.b.512", 8: "avx2.pshuf.b", 4: "ssse3.pshuf.b.128"}
        name = f"llvm.x86.{names[self.lanes]}" if X86 else "llvm.aarch64.neon.tbl1.v16i8"
        return self.builder.bitcast(self._call(name, self.octets, table, index), self.shorts)

    def add_pairs(self, sums: Any, states: Any, weights: Any) -> Any:  # noqa: ANN401
        """Words, each with the products of two shorts by two others added to it."""
        if "+avx512vnni" in FEATURES and self.lanes == ZMM.lanes:
            return self.instruction("vpdpwssd $3, $2, $0", "=v,0,v,v", sums, states, weights)
        shorts = [self.builder.bitcast(words, self.shorts) for words in (states, weights)]
        if self.lanes == NEON.lanes:
            return self.builder.add(sums, self._pairs(*shorts))
        names = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd"}
        products = self._call(names[self.lanes], self.words, *shorts)
        # By name, or LLVM would first add up several products, for which it has no registers.
        return self.instruction("vpaddd $2, $1, $0", "=v,v,v", sums, products)

    def instruction(self, code: str, registers: str, *vectors: Any) -> Any:  # noqa: ANN401
        kind = ir.FunctionType(vectors[0].type, [vector.type for vector in vectors])
        if self.lanes != ZMM.lanes:  # AVX2 has half as many registers, by another letter
            registers = registers.replace("v", "x")
        assembled = ir.InlineAsm(kind, code, registers, side_effect=False)
        return self.builder.call(assembled, vectors)

    def prefetch(self, base: Any, offset: int) -> None:  # noqa: ANN401
        """Into the second cache."""
        reads, second_cache, data = (ir.Constant(WORD, flag) for flag in (0, 2, 1))
        place = self.at(base, offset, WORD)
        self._call("llvm.prefetch.p0", ir.VoidType(), place, reads, second_cache, data)

    def _pairs(self, states: Any, weights: Any) -> Any:  # noqa: ANN401
        builder, wide = self.builder, ir.VectorType(WORD, 2 * self.lanes)
        products = builder.mul(builder.sext(states, wide), builder.sext(weights, wide))
        firsts, seconds = (
            ir.Constant(self.words, list(range(first, 2 * self.lanes, 2))) for first in (0, 1)
        )
        return builder.add(
            builder.shuffle_vector(products, products, firsts),
            builder.shuffle_vector(products, products, seconds),
        )

    def _call(self, name: str, result: Any, *arguments: Any) -> Any:  # noqa: ANN401
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        declare: Callable[..., Any] = cgutils.get_or_insert_function
        return self.builder.call(declare(self.builder.module, kind, name), arguments)


def number(value: int) -> Any:  # noqa: ANN401
    return ir.Constant(ADDRESS, value)
