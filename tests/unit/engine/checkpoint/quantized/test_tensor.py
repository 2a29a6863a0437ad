"""Whatever is cut from a matrix of few bits, or put together, has the same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tensors import drawn_tensors, random_quantized

from tandem.engine import Span
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor, Scales, stacked


def same(found: QuantizedTensor, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and np.array_equal(found.dequantize(), expected)


def test_a_number_is_its_code_in_the_table_times_the_scale_and_the_minimum() -> None:
    table = np.linspace(-2, 2, 16, dtype=np.float32)
    tensor = QuantizedTensor(
        codes=np.array([[0x10, 0xF2], [0x43, 0x65]], np.uint8),
        bits=4,
        group=2,
        scales=Scales(np.array([[0.5], [2.0]], np.float32), np.array([[1, 3], [2, 1]], np.uint8)),
        minimums=Scales(np.array([[1.0, -1.0], [0.0, 4.0]], np.float32)),
        table=table,
    )
    scales = np.array([[0.5, 0.5, 1.5, 1.5], [4, 4, 2, 2]], np.float32)
    minimums = np.array([[1, 1, -1, -1], [0, 0, 4, 4]], np.float32)
    codes = np.array([[0, 1, 2, 15], [3, 4, 5, 6]])
    assert same(tensor, table[codes] * scales + minimums)


@given(drawn_tensors(), st.data())
def test_slices_have_the_numbers_of_the_whole(tensor: QuantizedTensor, data: st.DataObject) -> None:
    rows, columns = tensor.shape
    whole = tensor.dequantize()
    first, last = sorted(
        data.draw(st.lists(st.integers(0, rows), min_size=2, max_size=2, unique=True))
    )
    assert same(tensor.rows(Span(first, last)), whole[first:last])
    index = np.array(
        data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=5)), np.int64
    )
    assert same(tensor.rows(index), whole[index])
    first, last = sorted(
        data.draw(st.lists(st.integers(0, columns), min_size=2, max_size=2, unique=True))
    )
    assert same(tensor.columns(Span(first, last)), whole[:, first:last])


@given(drawn_tensors(), st.data())
def test_another_layout_has_the_same_numbers(tensor: QuantizedTensor, data: st.DataObject) -> None:
    whole = tensor.dequantize()
    assert same(tensor.widened(), whole)
    divisors = [size for size in range(1, tensor.group + 1) if tensor.group % size == 0]
    assert same(tensor.regrouped(data.draw(st.sampled_from(divisors))), whole)


@given(drawn_tensors(), st.data())
def test_stacked_rows_follow_one_another(tensor: QuantizedTensor, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, tensor.shape[0]))
    parts = [tensor.rows(Span(0, cut)), tensor.rows(Span(cut, tensor.shape[0]))]
    found = stacked(parts)
    assert found is not None
    assert same(found, tensor.dequantize())


def test_parts_of_different_groups_are_stacked_in_the_smaller() -> None:
    parts = [random_quantized(3, 64, group=32, inner=2), random_quantized(2, 64, group=16)]
    found = stacked(parts)
    assert found is not None
    assert found.group == 16
    assert same(found, np.concatenate([part.dequantize() for part in parts]))


def test_codes_that_mean_something_else_are_not_stacked() -> None:
    one = random_quantized(2, 64)
    others = [
        random_quantized(2, 64, bits=8),
        random_quantized(2, 64, table=True),
        random_quantized(2, 64, minimums=False),
        replace(one, order=np.arange(64)),
    ]
    assert [stacked([one, other]) for other in others] == [None] * len(others)


def test_an_order_says_which_input_a_column_is_of() -> None:
    tensor, order = random_quantized(3, 32), np.random.default_rng(0).permutation(32)
    ordered = replace(tensor, order=order)
    assert np.array_equal(ordered.dequantize()[:, order], tensor.dequantize())
    with pytest.raises(ValueError, match="order"):
        ordered.columns(Span(0, 16))
