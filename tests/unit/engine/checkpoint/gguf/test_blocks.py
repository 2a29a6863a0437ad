"""Numbers of every type are those of the format's own library, to the bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from tandem.engine.checkpoint.gguf.blocks import TYPES, BlockType
from tandem.engine.checkpoint.sharding import Span

FEW_BITS = {number: kind for number, kind in TYPES.items() if kind.unpack is not None}
NAMES = [kind.name for kind in FEW_BITS.values()]
#: Bytes that a scale is made of: zeros, the smallest denormals, infinities, what is no number.
EDGES = np.array([0x00, 0x01, 0x7B, 0x7C, 0x7F, 0x80, 0xFC, 0xFE, 0xFF], np.uint8)


def drawn(kind: BlockType, rows: int, across: int, seed: int) -> npt.NDArray[np.uint8]:
    """Any bytes, a third of them from `EDGES`."""
    rng = np.random.default_rng(seed)
    shape = (rows, across, kind.nbytes)
    numbers = rng.integers(0, 256, shape, dtype=np.uint8)
    return np.where(rng.random(shape) < 0.3, rng.choice(EDGES, shape), numbers)


def named(name: str) -> tuple[int, BlockType]:
    return next((number, kind) for number, kind in FEW_BITS.items() if kind.name == name)


def reference(number: int, blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    kind = TYPES[number]
    if kind.name == "Q8_K":  # of which the library knows the size alone
        scales = blocks[..., :4].copy().view(np.float32)
        codes = blocks[..., 4:260].view(np.int8).astype(np.float32)
        return (scales * codes).reshape(len(blocks), -1)
    found: npt.NDArray[np.float32] = dequantize(
        blocks.reshape(len(blocks), -1), GGMLQuantizationType(number)
    )
    return found


def assert_same_bits(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    numbers = ~np.isnan(expected)
    assert np.array_equal(numbers, ~np.isnan(found))
    assert np.array_equal(found[numbers].view(np.uint32), expected[numbers].view(np.uint32))


def test_sizes_are_those_of_the_library() -> None:
    theirs = {kind.value: (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    ours = {n: (kind.name, kind.columns, kind.nbytes) for n, kind in TYPES.items()}
    assert ours == {number: theirs[number] for number in ours}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rows", "across"), [(1, 1), (5, 3), (300, 4)])
def test_numbers_are_the_same_to_the_bit(name: str, rows: int, across: int) -> None:
    number, kind = named(name)
    blocks = drawn(kind, rows, across, seed=rows)
    with np.errstate(all="ignore"):
        found, expected = kind.tensor(blocks).dequantize(), reference(number, blocks)
    assert found.shape == (rows, across * kind.columns)
    assert_same_bits(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_scales_of_all_kinds_are_met(name: str) -> None:
    """A scale of two bytes lies first or last in a block, a minimum after it or before."""
    number, kind = named(name)
    pairs = np.arange(0, 2**16, 7, dtype="<u2").view(np.uint8).reshape(-1, 2)
    for at in (0, 2, kind.nbytes - 4, kind.nbytes - 2):
        blocks = np.full((len(pairs), 1, kind.nbytes), 0x5A, np.uint8)
        blocks[:, 0, at : at + 2] = pairs
        with np.errstate(all="ignore"):
            assert_same_bits(kind.tensor(blocks).dequantize(), reference(number, blocks))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_columns_is_that_of_the_numbers(name: str) -> None:
    _, kind = named(name)
    tensor = kind.tensor(drawn(kind, 4, 3, seed=2))
    with np.errstate(all="ignore"):
        whole = tensor.dequantize()
        for span in (Span(0, kind.columns), Span(16, kind.columns + 48), Span(6, 20)):
            assert_same_bits(tensor.columns(span).dequantize(), whole[:, span.start : span.stop])


def test_numbers_of_few_bits_stay_few() -> None:
    """A type's bytes grow only by what its scales are widened to."""
    for kind in FEW_BITS.values():
        blocks = drawn(kind, 8, 4, seed=0)
        tensor = kind.tensor(blocks)
        assert tensor.codes.nbytes == 8 * 4 * kind.columns * kind.bits // 8
        assert tensor.nbytes - tensor.codes.nbytes <= 8 * 4 * (8 + 2 * kind.columns // 16)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_block_takes_in_memory_is_known_without_it(name: str) -> None:
    _, kind = named(name)
    tensor = kind.tensor(drawn(kind, 3, 2, 0))
    assert tensor.nbytes == 3 * 2 * kind.kept_bytes
