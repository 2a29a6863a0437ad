"""Weights rounded to four bits: as near as sixteen numbers and a scale of 16 bits can be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tensors import random_tensor

from tandem.engine.backends.pytorch.kernels.rounding import GROUP, rounded_to_four_bits
from tandem.engine.backends.pytorch.layers.linear import make_linear
from tandem.engine.checkpoint.dtypes import Quantization, weight_item_bytes
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor


def rounded(weight: torch.Tensor) -> QuantizedTensor:
    found = rounded_to_four_bits(weight)
    assert found is not None
    return found


def numbers(tensor: QuantizedTensor) -> torch.Tensor:
    return torch.from_numpy(tensor.dequantize())


@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 1000),
    st.floats(1e-3, 1e3),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
@settings(deadline=None, max_examples=60)
def test_every_number_becomes_the_nearest_that_its_scale_has(
    rows: int, groups: int, seed: int, size: float, dtype: torch.dtype
) -> None:
    weight = (size * random_tensor(rows, groups * GROUP, seed=seed)).to(dtype)
    tensor = rounded(weight)
    scales = torch.from_numpy(tensor.scales.outer)
    assert torch.equal(scales, scales.half().float())
    assert tensor.table is not None
    choices = torch.from_numpy(tensor.table) * scales[..., None]
    grouped = weight.float().view(rows, groups, GROUP)
    nearest = (grouped[..., None] - choices[:, :, None]).abs().amin(dim=-1)
    error = (numbers(tensor).view_as(grouped) - grouped).abs()
    # Between two numbers of the table, whole ones are looked up: off by half a step at most.
    assert (error <= nearest + scales.abs()[..., None] * 1.001).all()


def test_scales_are_better_than_those_of_the_largest_number() -> None:
    weight = random_tensor(64, 16 * GROUP, seed=3)
    groups = weight.view(64, -1, GROUP)
    tensor = rounded(weight)
    assert tensor.table is not None
    largest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    choices = torch.from_numpy(tensor.table) * (largest / -127)
    places = (groups[..., None] - choices[..., None, :]).abs().argmin(dim=-1)
    plain = choices.gather(-1, places).view_as(weight)
    squares = [((found - weight) ** 2).sum() for found in (numbers(tensor), plain)]
    assert squares[0] < 0.9 * squares[1]
    assert squares[0] < 0.008 * (weight**2).sum()


def test_rows_do_not_depend_on_threads_or_other_rows() -> None:
    weight = random_tensor(7, 4 * GROUP, dtype=torch.bfloat16)
    whole = numbers(rounded(weight))
    alone = torch.cat([numbers(rounded(row[None])) for row in weight])
    assert torch.equal(whole, alone)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(numbers(rounded(weight)), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_spoils_its_group_alone(bad: float) -> None:
    weight = random_tensor(2, 3 * GROUP)
    clean = numbers(rounded(weight))
    weight[1, GROUP + 5] = bad
    found = numbers(rounded(weight))
    assert not found[1, GROUP : 2 * GROUP].isfinite().any()
    found[1, GROUP : 2 * GROUP] = clean[1, GROUP : 2 * GROUP]
    assert torch.equal(found, clean)


def test_zeros_stay_zeros_and_numbers_beyond_sixteen_bits_stay_numbers() -> None:
    weight = torch.zeros(2, 2 * GROUP)
    weight[1] = 1e30
    found = numbers(rounded(weight))
    assert torch.equal(found[0], torch.zeros(2 * GROUP))
    assert found.isfinite().all()


def test_four_bits_take_what_plans_count() -> None:
    tensor = rounded(random_tensor(16, 8 * GROUP))
    taken = tensor.codes.nbytes + 2 * tensor.scales.outer.size
    assert taken == 16 * 8 * GROUP * weight_item_bytes("bfloat16", Quantization.INT4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_those_of_the_rounded_weight(dtype: torch.dtype) -> None:
    weight, states = random_tensor(96, 64, dtype=dtype), random_tensor(5, 64, seed=1, dtype=dtype)
    bias = random_tensor(96, seed=2, dtype=dtype)
    found = make_linear(weight, bias, Quantization.INT4)(states)
    expected = states.double() @ numbers(rounded(weight)).double().T + bias
    assert found.dtype == dtype
    # Where there is no kernel for them, weights are rounded to the dtype of the states.
    bound = 1e-5 if dtype == torch.float32 else 2**-7 * math.sqrt(64)
    torch.testing.assert_close(found.double(), expected, rtol=bound, atol=bound)


def test_inputs_that_do_not_divide_into_groups_stay_in_eight_bits() -> None:
    weight, states = random_tensor(40, GROUP + 8), random_tensor(3, GROUP + 8, seed=1)
    assert rounded_to_four_bits(weight) is None
    eight = make_linear(weight, None, Quantization.INT8)(states)
    assert np.array_equal(make_linear(weight, None, Quantization.INT4)(states), eight)
