"""Small floats and streams of bits, against PyTorch and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tandem.engine.checkpoint.quantized.numbers import E2M1, SMALL_FLOATS, Bytes, float32, unpacked

FORMATS = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_code_is_the_number_that_pytorch_has(name: str) -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    expected = codes.view(FORMATS[name]).to(torch.float32).numpy()
    assert np.array_equal(SMALL_FLOATS[name], expected, equal_nan=True)
    zeros = expected == 0
    assert np.array_equal(np.signbit(SMALL_FLOATS[name])[zeros], np.signbit(expected)[zeros])


def test_four_bits_are_those_of_the_standard() -> None:
    positive = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert E2M1.tolist() == positive + [-number for number in positive]


def test_bfloat16_is_widened() -> None:
    words = torch.arange(2**16, dtype=torch.int32).to(torch.uint16)
    expected = words.view(torch.bfloat16).to(torch.float32).numpy()
    assert np.array_equal(float32(words.numpy(), "bfloat16"), expected, equal_nan=True)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(bits=st.integers(2, 8), rows=st.integers(1, 3), eights=st.integers(1, 5), data=st.data())
def test_codes_follow_one_another_in_a_stream(
    bits: int, rows: int, eights: int, data: st.DataObject
) -> None:
    codes: Bytes = data.draw(
        arrays.arrays(np.uint8, (rows, eights * 8), elements=st.integers(0, 2**bits - 1))
    )
    stream = np.unpackbits(codes[..., None], axis=-1, bitorder="little")[..., :bits]
    packed = np.packbits(stream.reshape(rows, -1), axis=-1, bitorder="little")
    assert np.array_equal(unpacked(packed, bits), codes)
