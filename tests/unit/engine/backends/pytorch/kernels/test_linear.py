"""Linear maps: how close int8 comes, and that a row does not depend on the rows beside it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels import int8, packed, products
from tandem.engine.backends.pytorch.kernels.arrays import ResultBuffer
from tandem.engine.backends.pytorch.kernels.int8 import (
    IntegerLinear,
    PackedInt8,
    QuantizedWeight,
    UnpackedInt8Linear,
    make_int8_linear,
)
from tandem.engine.backends.pytorch.kernels.packed import (
    COMPILED,
    ONEDNN,
    ONEDNN_PADDED,
    PackedLinear,
    PackedWeight,
    multiply_tiles,
)
from tandem.engine.backends.pytorch.kernels.tiled import linear as tiled_linear
from tandem.engine.backends.pytorch.kernels.tiled.linear import (
    PYTORCH,
    TILED,
    TiledLinear,
    make_codes_linear,
    makes_tiles,
)
from tandem.engine.backends.pytorch.kernels.tiled.vectors import HAS_TILES
from tandem.engine.backends.pytorch.layers.linear import DenseLinear, Linear, make_linear, make_tied
from tandem.engine.checkpoint.dtypes import Quantization

Maker = Callable[[QuantizedWeight, torch.Tensor | None], Linear]


def integer(kernel: str) -> Maker:
    """Integer products that always go by one kernel."""

    def make(weight: QuantizedWeight, bias: torch.Tensor | None) -> Linear:
        linear = IntegerLinear(PackedInt8(weight), bias)

        def multiply(states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(int8._tuner, "kernel", lambda _: kernel)
                return linear(states, dtype)

        return multiply

    return make


#: Every way to multiply by int8 weights that is right on this machine.
INTEGER = (
    [integer(kernel) for kernel in (int8.COMPILED, int8.ONEDNN)] if IntegerLinear.is_fast() else []
)
INT8: list[Maker] = [UnpackedInt8Linear, *INTEGER]


def int8_tiles(weight: QuantizedWeight, bias: torch.Tensor | None) -> Linear:
    linear = make_codes_linear(weight.tensor(), bias)
    assert linear is not None
    return linear


if HAS_TILES:
    INTEGER.append(int8_tiles)
    INT8.append(int8_tiles)

needs_packing = pytest.mark.skipif(
    not PackedWeight.is_fast(), reason="this CPU computes no bfloat16, so nothing is packed"
)

odd_shapes = st.tuples(st.integers(1, 70), st.integers(1, 90), st.integers(1, 20))
#: Those whose packed order is known: few rows may go through compiled loops.
whole_tiles = st.tuples(
    st.sampled_from([64, 128, 192]), st.sampled_from([32, 64, 160, 192]), st.integers(1, 20)
)
shapes = odd_shapes | whole_tiles


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


@pytest.mark.parametrize("make", INTEGER)
@given(shapes, st.integers(0, 1000), st.sampled_from([torch.float32, torch.bfloat16]))
@settings(deadline=None, max_examples=40)
def test_integer_products_of_a_row_do_not_depend_on_other_rows(
    make: Maker, shape: tuple[int, int, int], seed: int, dtype: torch.dtype
) -> None:
    weight, bias, states = random_parts(shape, seed, dtype)
    linear = make(QuantizedWeight(weight), bias)
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


def check_products(linear: Linear, parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    weight, bias, states = parts
    # Rounded twice at most: the product, and the sum with the bias.
    bound = exact(weight.abs(), bias.abs(), states.abs()) * 2**-7
    expected = exact(weight, bias, states)
    for count in {1, min(2, len(states)), len(states)}:
        assert ((linear(states[:count]) - expected[:count]).abs() <= bound[:count]).all()


@given(shapes, st.integers(0, 1000), st.booleans())
@settings(deadline=None, max_examples=40)
def test_bfloat16_products_are_right_for_one_row_and_for_many(
    shape: tuple[int, int, int], seed: int, biased: bool
) -> None:
    weight, bias, states = random_parts(shape, seed, torch.bfloat16)
    linear = DenseLinear(weight, bias if biased else None)
    check_products(linear, (weight, bias if biased else torch.zeros_like(bias), states))


@needs_packing
@pytest.mark.parametrize("kernel", [ONEDNN, ONEDNN_PADDED, COMPILED])
@given(shapes, st.integers(0, 1000), st.booleans())
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_packed_products_are_right_whichever_way_is_fastest(
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    shape: tuple[int, int, int],
    seed: int,
    biased: bool,
) -> None:
    monkeypatch.setattr(packed._tuner, "kernel", lambda _: kernel)
    weight, bias, states = random_parts(shape, seed, torch.bfloat16)
    linear = PackedLinear(PackedWeight(weight), bias if biased else None)
    check_products(linear, (weight, bias if biased else torch.zeros_like(bias), states))


def check_wide_products(
    linear: Linear, weight: torch.Tensor, bias: torch.Tensor, states: torch.Tensor
) -> None:
    """Sixteen bits of each result at least: bfloat16 has eight."""
    bound = exact(weight.abs(), bias.abs(), states.abs()) * 2**-15
    expected = exact(weight, bias, states)
    for count in {1, min(2, len(states)), len(states)}:
        found = linear(states[:count], torch.float32)
        assert found.dtype == torch.float32
        assert ((found - expected[:count]).abs() <= bound[:count]).all()


@given(shapes, st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dense_products_are_not_rounded_where_float32_is_asked_for(
    dtype: torch.dtype, shape: tuple[int, int, int], seed: int
) -> None:
    weight, bias, states = random_parts(shape, seed, dtype)
    check_wide_products(DenseLinear(weight, bias), weight, bias, states)


@needs_packing
@pytest.mark.parametrize("kernel", [ONEDNN, ONEDNN_PADDED, COMPILED])
@given(shapes, st.integers(0, 1000))
@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_packed_products_are_not_rounded_where_float32_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, kernel: str, shape: tuple[int, int, int], seed: int
) -> None:
    monkeypatch.setattr(packed._tuner, "kernel", lambda _: kernel)
    weight, bias, states = random_parts(shape, seed, torch.bfloat16)
    check_wide_products(PackedLinear(PackedWeight(weight), bias), weight, bias, states)


# Tiles keep more of states of float32 than of bfloat16.
@pytest.mark.parametrize("make", [make for make in INT8 if make is not int8_tiles])
@given(shapes, st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_int8_products_of_bfloat16_are_not_rounded_where_float32_is_asked_for(
    make: Maker, shape: tuple[int, int, int], seed: int
) -> None:
    weight, bias, states = random_parts(shape, seed, torch.bfloat16)
    quantized = QuantizedWeight(weight)
    wide = make(quantized, bias)(states, torch.float32)
    assert wide.dtype == torch.float32
    assert torch.equal(wide, make(quantized, bias.float())(states.float()))


@needs_packing
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_compiled_products_keep_what_is_not_a_number(bad: float) -> None:
    weight, _, states = random_parts((64, 64, 1), 6, torch.bfloat16)
    states[0, 5] = bad
    assert not by_loops(weight, states).isfinite().any()


@needs_packing
@given(whole_tiles, st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_compiled_products_of_a_row_do_not_depend_on_other_rows(
    shape: tuple[int, int, int], seed: int
) -> None:
    weight, _, states = random_parts(shape, seed, torch.bfloat16)
    alone = torch.cat([by_loops(weight, row[None]) for row in states])
    assert torch.equal(by_loops(weight, states), alone)


def by_loops(weight: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    packed_weight = PackedWeight(weight)  # whose memory the tiles are
    assert packed_weight.tiles is not None
    return multiply_tiles(states, packed_weight.tiles, ResultBuffer())


#: Multiplies, in a process of its own, for a CPU with AVX-512 but no products of bfloat16 pairs.
OLDER_CPU = {
    "NUMBA_CPU_NAME": "skylake-avx512",
    "NUMBA_CPU_FEATURES": "+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512cd,+avx2,+fma,+f16c",
}
MULTIPLY = """
import torch
from tests.unit.engine.backends.pytorch.kernels.test_linear import by_loops, random_parts
weight, _, states = random_parts((128, 160, 9), 9, torch.bfloat16)
torch.save(by_loops(weight, states), "product.pt")
"""


@needs_packing
def test_cpus_without_dot_products_of_pairs_multiply_all_the_same(tmp_path: Path) -> None:
    environment = os.environ | OLDER_CPU | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), *sys.path])
    subprocess.run([sys.executable, "-c", MULTIPLY], env=environment, cwd=tmp_path, check=True)
    weight, _, states = random_parts((128, 160, 9), 9, torch.bfloat16)
    found, expected = torch.load(tmp_path / "product.pt"), states.double() @ weight.double().T
    assert (
        (found - expected).abs() <= states.double().abs() @ weight.double().abs().T * 2**-8
    ).all()


@needs_packing
def test_a_tied_weight_is_kept_once_and_read_both_ways() -> None:
    weight, _, states = random_parts((192, 64, 3), 7, torch.bfloat16)
    tokens = torch.tensor([0, 63, 64, 191, 5, 5])
    embedding, head = make_tied(weight, None)
    assert torch.equal(embedding(tokens), weight[tokens])
    check_products(head, (weight, torch.zeros(192, dtype=torch.bfloat16), states))
    assert isinstance(head, PackedLinear)


needs_tiles = pytest.mark.skipif(not HAS_TILES, reason="this CPU has no fast loops over tiles")


@needs_tiles
def test_without_bfloat16_in_onednn_weights_are_kept_in_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PackedWeight, "is_fast", lambda: False)
    monkeypatch.setattr(tiled_linear._tuner, "tune", lambda: {1: PYTORCH, 32: TILED})
    weight, bias, states = random_parts((70, 30, 9), 10, torch.bfloat16)
    linear = make_linear(weight, bias, None)
    assert isinstance(linear, TiledLinear)
    check_products(linear, (weight, bias, states))
    embedding, head = make_tied(weight, None)
    assert torch.equal(embedding(torch.tensor([69, 0])), weight[[69, 0]])
    check_products(head, (weight, torch.zeros_like(bias), states))


@needs_tiles
def test_tiles_are_left_where_pytorch_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackedWeight, "is_fast", lambda: False)
    monkeypatch.setattr(tiled_linear._tuner, "tune", lambda: {1: PYTORCH, 32: PYTORCH})
    weight, _, _ = random_parts((8, 16, 3), 5, torch.bfloat16)
    assert not makes_tiles(weight)
    assert isinstance(make_linear(weight, None, None), DenseLinear)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tied_weight_of_odd_shape_is_right_all_the_same(dtype: torch.dtype) -> None:
    weight, _, states = random_parts((70, 30, 3), 8, dtype)
    embedding, head = make_tied(weight, None)
    assert torch.equal(embedding(torch.tensor([69, 0])), weight[[69, 0]])
    expected = functional.linear(states.double(), weight.double())
    assert torch.allclose(head(states).double(), expected, rtol=2**-6, atol=0.1)


def test_float32_is_the_same_to_the_bit_for_one_row_and_for_many() -> None:
    weight, bias, states = random_parts((64, 96, 8), 4)
    linear = DenseLinear(weight, bias)
    assert torch.equal(linear(states[:1]), functional.linear(states[:1], weight, bias))


def test_int8_is_only_used_when_asked_for() -> None:
    weight, bias, _ = random_parts((8, 16, 3), 5)
    assert isinstance(make_linear(weight, bias, None), DenseLinear)
    slow = TiledLinear if HAS_TILES else UnpackedInt8Linear
    expected = IntegerLinear if IntegerLinear.is_fast() else slow
    assert isinstance(make_linear(weight, bias, Quantization.INT8), expected)
    assert isinstance(make_int8_linear(weight, bias), expected)


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    st.floats(2.0**-20, 1.0, width=32),
)
@settings(max_examples=200, deadline=None)
def test_two_parts_keep_sixteen_bits_of_a_rows_largest(values: list[float], factor: float) -> None:
    states = torch.tensor([values, [factor * value for value in values]])
    quantized = int8.QuantizedActivations.of(states, np.float32(254))
    numbers = torch.from_numpy(quantized.values).double() - products.ZERO_POINT
    assert numbers.abs().max() <= 127
    whole = numbers[:2] + numbers[2:] / 254
    error = (whole * torch.from_numpy(quantized.scales).double()[:, None] - states.double()).abs()
    bound = states.double().abs().amax(1, keepdim=True) / 127 / 254
    assert (error <= bound * 0.51 + 1e-30).all()
