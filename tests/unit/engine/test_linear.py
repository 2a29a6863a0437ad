"""Linear maps: how close int8 comes, and that a row does not depend on the rows beside it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tandem.engine.model.linear import (
    DenseLinear,
    IntegerLinear,
    PackedLinear,
    QuantizedWeight,
    UnpackedInt8Linear,
    make_linear,
)

Maker = type[UnpackedInt8Linear] | type[IntegerLinear]
#: Every way to multiply that is right on this machine: by bfloat16 weights, and by int8 ones.
DENSE = [DenseLinear, *([PackedLinear] if PackedLinear.is_fast() else [])]
INT8: list[Maker] = [UnpackedInt8Linear, *([IntegerLinear] if IntegerLinear.is_fast() else [])]

shapes = st.tuples(st.integers(1, 70), st.integers(1, 90), st.integers(1, 20))


def random_parts(
    shape: tuple[int, int, int], seed: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weight (out, in), bias (out) and states (rows, in)."""
    outputs, inputs, rows = shape
    chance = torch.Generator().manual_seed(seed)
    parts = ((outputs, inputs), (outputs,), (rows, inputs))
    weight, bias, states = (torch.randn(*size, generator=chance).to(dtype) for size in parts)
    return weight, bias, states


def exact(weight: torch.Tensor, bias: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    return states.double() @ weight.double().T + bias.double()


def dequantized(weight: QuantizedWeight) -> torch.Tensor:
    return weight.values.double() * weight.scales.double()[:, None]


@pytest.mark.parametrize("make", INT8)
@given(shapes, st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_int8_products_are_those_of_the_rounded_weights(
    make: Maker, shape: tuple[int, int, int], seed: int
) -> None:
    weight, bias, states = random_parts(shape, seed)
    quantized = QuantizedWeight(weight)
    expected = exact(dequantized(quantized), bias, states)
    # Each activation keeps 16 bits of its row's largest, each weight 8 of its row's.
    magnitudes = states.abs().amax(1, keepdim=True) * weight.abs().amax(1)
    bound = magnitudes.double() * weight.shape[1] / 127 / 254 / 2 + 1e-5
    assert ((make(quantized, bias)(states) - expected).abs() <= bound).all()


@pytest.mark.parametrize("make", INT8)
def test_int8_adds_less_error_to_bfloat16_than_bfloat16_has(make: Maker) -> None:
    weight, bias, states = random_parts((256, 512, 9), 1, torch.bfloat16)
    quantized = QuantizedWeight(weight)
    rounded = exact(dequantized(quantized), bias, states)
    found = make(quantized, bias)(states)
    assert found.dtype == torch.bfloat16
    assert (found - rounded).abs().max() <= rounded.abs().max() * 2**-7


@given(shapes, st.integers(0, 1000), st.sampled_from([torch.float32, torch.bfloat16]))
@settings(deadline=None, max_examples=40)
def test_integer_products_of_a_row_do_not_depend_on_other_rows(
    shape: tuple[int, int, int], seed: int, dtype: torch.dtype
) -> None:
    weight, bias, states = random_parts(shape, seed, dtype)
    linear = IntegerLinear(QuantizedWeight(weight), bias)
    together = linear(states)
    alone = torch.cat([linear(row[None]) for row in states])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("make", INT8)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_stays_that_and_spoils_no_other_row(make: Maker, bad: float) -> None:
    weight, bias, states = random_parts((8, 16, 3), 2)
    linear = make(QuantizedWeight(weight), bias)
    clean = linear(states)
    states[1, 4] = bad
    found = linear(states)
    assert not found[1].isfinite().any()
    assert torch.equal(found[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("make", INT8)
def test_rows_of_zeros_give_the_bias(make: Maker) -> None:
    weight, bias, states = random_parts((8, 16, 3), 3)
    weight[2] = 0
    found = make(QuantizedWeight(weight), bias)(torch.zeros_like(states))
    assert torch.equal(found, bias.expand(3, -1))


@pytest.mark.parametrize("make", DENSE)
@given(shapes, st.integers(0, 1000), st.booleans())
@settings(deadline=None, max_examples=40)
def test_bfloat16_products_are_right_for_one_row_and_for_many(
    make: type[DenseLinear | PackedLinear],
    shape: tuple[int, int, int],
    seed: int,
    biased: bool,
) -> None:
    weight, bias, states = random_parts(shape, seed, torch.bfloat16)
    linear = make(weight, bias if biased else None)
    added = bias if biased else torch.zeros_like(bias)
    # Rounded twice at most: the product, and the sum with the bias.
    bound = exact(weight.abs(), added.abs(), states.abs()) * 2**-7
    expected = exact(weight, added, states)
    for count in (1, len(states)):
        assert ((linear(states[:count]) - expected[:count]).abs() <= bound[:count]).all()


def test_float32_is_the_same_to_the_bit_for_one_row_and_for_many() -> None:
    weight, bias, states = random_parts((64, 96, 8), 4)
    linear = DenseLinear(weight, bias)
    assert torch.equal(linear(states[:1]), functional.linear(states[:1], weight, bias))


def test_int8_is_only_used_when_asked_for() -> None:
    weight, bias, _ = random_parts((8, 16, 3), 5)
    assert isinstance(make_linear(weight, bias, None), DenseLinear)
    assert isinstance(make_linear(weight, bias, "int8"), INT8[-1])


def test_bfloat16_is_packed_unless_others_read_the_weight_too() -> None:
    weight, bias, _ = random_parts((8, 16, 3), 5, torch.bfloat16)
    assert isinstance(make_linear(weight, bias, None), DENSE[-1])
    assert isinstance(make_linear(weight, bias, None, shared=True), DenseLinear)
