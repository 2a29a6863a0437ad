"""Products by tiles of our own: right to the last bit that is kept, whatever else is multiplied."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.tensors import DTYPES, random_quantized, random_tensor

from tandem.engine.backends.pytorch.kernels.arrays import ResultBuffer
from tandem.engine.backends.pytorch.kernels.tiled import team
from tandem.engine.backends.pytorch.kernels.tiled import weights as tiled_weights
from tandem.engine.backends.pytorch.kernels.tiled.codes import group_codes
from tandem.engine.backends.pytorch.kernels.tiled.linear import OrderedLinear, TiledLinear
from tandem.engine.backends.pytorch.kernels.tiled.vectors import (
    FEATURES,
    HAS_TILES,
    NEON,
    WIDTH,
    X86,
    YMM,
    ZMM,
    Width,
)
from tandem.engine.backends.pytorch.kernels.tiled.weights import (
    TiledCodes,
    TiledNumbers,
    TiledWeight,
)
from tandem.engine.backends.pytorch.layers.linear import (
    DenseLinear,
    keeps_codes,
    make_quantized_linear,
    make_quantized_tied,
)
from tandem.engine.checkpoint.quantized.tensor import Floats, QuantizedTensor, Scales
from tandem.engine.checkpoint.sharding import Span

pytestmark = pytest.mark.skipif(not HAS_TILES, reason="this CPU has no fast loops over tiles")

#: Those of narrower vectors run here too.
WIDTHS = [
    pytest.param(NEON, id="128"),
    *([pytest.param(YMM, id="256")] if X86 else []),
    *([pytest.param(ZMM, id="512")] if "+avx512bw" in FEATURES else []),
]
LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
HALVES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
KINDS = ["integers", "levels", "halves", "shared scales", "bytes", "long groups"]


#: Compiling takes a second a kind and width: vectors of 128 bits stand for all that is not x86.
CASES = [
    pytest.param(*width.values, kind, id=f"{width.id} {kind}")
    for width in WIDTHS
    for kind in (KINDS if width.values[0] is not NEON else ["levels", "shared scales"])
]


def quantized(kind: str, rows: int, columns: int, seed: int) -> QuantizedTensor:
    """A matrix as some formats have it; `columns` are whole groups of 32."""
    plain = random_quantized(rows, columns, seed=seed, minimums=False)
    match kind:
        case "integers":
            return random_quantized(rows, columns, seed=seed)
        case "levels":
            return replace(plain, table=LEVELS.astype(np.float32))
        case "halves":
            scales = Scales(np.float32(2.0) ** np.round(plain.scales.outer * 40))
            return replace(plain, table=HALVES.astype(np.float32), scales=scales)
        case "shared scales":
            return random_quantized(rows, columns, group=16, inner=2, seed=seed)
        case "bytes":
            return random_quantized(rows, columns, bits=8, minimums=False, seed=seed)
        case _:
            return random_quantized(rows, columns, bits=8, group=columns, minimums=False, seed=seed)


def tiled(tensor: QuantizedTensor, width: Width) -> TiledCodes:
    codes = group_codes(tensor)
    assert codes is not None
    return TiledCodes(codes, width)


def product(
    weight: TiledWeight, states: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    return weight.multiply(states, torch.empty(len(states), weight.shape[0], dtype=dtype))


def bound(states: torch.Tensor, weight: Floats, group: int, *, exact: bool = True) -> torch.Tensor:
    """float32's own error, and where less is kept, what 16 bits of a group's largest leave out."""
    rows, columns = states.shape
    padded = torch.nn.functional.pad(states.double().abs(), (0, -columns % group))
    largest = padded.view(rows, -1, group).amax(-1).repeat_interleave(group, 1)[:, :columns]
    sizes = torch.from_numpy(weight).double().abs()
    left_out = largest * (0.51 / 32767 if states.dtype == torch.bfloat16 or not exact else 2**-24)
    return (left_out + states.double().abs() * 2**-20) @ sizes.T + 1e-6


def test_codes_are_in_memory_once() -> None:
    codes = group_codes(quantized("shared scales", 64, 128, seed=0))
    assert codes is not None
    parts = [weakref.ref(part) for part in (codes.codes, codes.scales, codes.outer_scales)]
    weight = TiledCodes(codes)
    del codes
    assert all(part() is None for part in parts)
    assert weight.rows(torch.tensor([63])).isfinite().all()


row_counts = st.integers(1, 21)
allowed = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.differing_executors]
)


@pytest.mark.parametrize("width", WIDTHS)
@given(st.integers(1, 140), st.integers(1, 80), row_counts, st.integers(0, 99))
@allowed
def test_products_of_numbers_are_those_of_float32(
    width: Width, outputs: int, inputs: int, rows: int, seed: int
) -> None:
    weight = random_tensor(outputs, inputs, seed=seed, dtype=torch.bfloat16)
    states = random_tensor(rows, inputs, seed=seed + 1)
    found = product(TiledNumbers(weight, width), states)
    sizes = states.double().abs() @ weight.double().abs().T
    assert ((found - states.double() @ weight.double().T).abs() <= sizes * 2**-20 + 1e-6).all()


@pytest.mark.parametrize(("width", "kind"), CASES)
@given(st.integers(1, 70), st.integers(1, 9), row_counts, st.sampled_from(DTYPES))
@allowed
def test_products_of_codes_keep_what_the_states_have(
    width: Width, kind: str, outputs: int, groups: int, rows: int, dtype: torch.dtype
) -> None:
    seed = outputs + rows
    tensor = quantized(kind, outputs, 32 * groups, seed)
    states = random_tensor(rows, 32 * groups, seed=seed + 1, dtype=dtype)
    numbers = tensor.dequantize()
    found = product(tiled(tensor, width), states)
    error = (found - states.double() @ torch.from_numpy(numbers).double().T).abs()
    assert (error <= bound(states, numbers, min(tensor.group, 256))).all()


@pytest.mark.parametrize("rows", [1, 7])
def test_unless_it_is_to_be_exact_16_bits_of_a_state_are_kept(rows: int) -> None:
    tensor, states = quantized("shared scales", 70, 288, 3), random_tensor(rows, 288, seed=4)
    numbers = tensor.dequantize()
    codes = group_codes(tensor)
    assert codes is not None
    errors = []
    for exact in (True, False):
        linear = TiledLinear(TiledCodes(codes, exact=exact), None)
        error = (linear(states) - states.double() @ torch.from_numpy(numbers).double().T).abs()
        assert (error <= bound(states, numbers, tensor.group, exact=exact)).all()
        errors.append(float(error.mean()))
    assert errors[0] < errors[1] / 4


def weights(width: Width) -> list[TiledWeight]:
    numbers = TiledNumbers(random_tensor(150, 96, dtype=torch.bfloat16), width)
    kinds = [kind for of, kind in (case.values for case in CASES) if of is width]
    return [numbers, *(tiled(quantized(str(kind), 150, 96, 0), width) for kind in kinds)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_rows_product_depends_neither_on_other_rows_nor_on_threads(
    monkeypatch: pytest.MonkeyPatch, width: Width, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(tiled_weights, "_ALONE_BYTES", 0)
    states = random_tensor(40, 96, seed=3, dtype=dtype)
    for weight in weights(width):
        monkeypatch.setattr(team, "threads_for", lambda _: 1)
        alone = torch.cat([product(weight, row[None]) for row in states])
        monkeypatch.setattr(team, "threads_for", lambda pieces: min(pieces, 3))
        for rows in (1, 2, 3, 5, 6, 7, 8, 9, 13, 16, 40):
            assert torch.equal(product(weight, states[:rows]), alone[:rows])


@pytest.mark.parametrize("width", WIDTHS)
def test_blocks_of_rows_are_multiplied_alike(monkeypatch: pytest.MonkeyPatch, width: Width) -> None:
    states = random_tensor(40, 96, seed=4)
    whole = [product(weight, states) for weight in weights(width)]
    monkeypatch.setattr(tiled_weights, "_BLOCK_STATE_BYTES", 1)
    tiled_weights._Grouping.of.cache_clear()
    again = [product(weight, states) for weight in weights(width)]
    tiled_weights._Grouping.of.cache_clear()
    assert all(torch.equal(*pair) for pair in zip(whole, again, strict=True))


def test_results_are_rounded_once_and_put_where_they_belong() -> None:
    for weight in weights(WIDTH)[:2]:
        states = random_tensor(3, 96, seed=5, dtype=torch.bfloat16)
        joined = torch.full((3, 155), 7.0, dtype=torch.bfloat16)
        weight.multiply(states, joined, 2)
        assert torch.equal(joined[:, 2:152], product(weight, states).bfloat16())
        weight.multiply(states.float(), joined, 2)
        assert torch.equal(joined[:, 2:152], product(weight, states.float()).bfloat16())
        assert (joined[:, [0, 1, 152, 153, 154]] == 7).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_not_a_number_stays_that_and_spoils_no_other_row(width: Width, bad: float) -> None:
    for weight in weights(width):
        states = random_tensor(9, 96, seed=6)
        clean = product(weight, states)
        states[4, 33] = bad
        found = product(weight, states)
        assert not found[4].isfinite().any()
        others = [row for row in range(9) if row != 4]
        assert torch.equal(found[others], clean[others])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_files_numbers_to_the_bit(kind: str) -> None:
    tensor = quantized(kind, 70, 288, 7)
    found = tiled(tensor, WIDTH).rows(torch.tensor([69, 0, 33, 33]))
    assert torch.equal(found, torch.from_numpy(tensor.dequantize()[[69, 0, 33, 33]]))


def test_rows_of_zeros_and_very_large_ones() -> None:
    weight = tiled(quantized("integers", 64, 64, 8), WIDTH)
    assert not product(weight, torch.zeros(2, 64)).any()
    small, large = random_tensor(1, 64, seed=1) * 1e-38, random_tensor(1, 64, seed=1) * 1e30
    assert product(weight, small).abs().max() < 1e-33
    assert product(weight, large).isfinite().all()


@pytest.mark.parametrize(("bits", "group"), [(4, 16), (4, 24), (4, 36), (8, 12), (4, 512)])
def test_groups_are_cut_or_widened_to_whole_words(bits: int, group: int) -> None:
    tensor = random_quantized(8, group * 3, bits=bits, group=group, seed=9)
    states = random_tensor(2, group * 3, seed=2)
    found = product(tiled(tensor, WIDTH), states)
    numbers = tensor.dequantize()
    error = (found - states.double() @ torch.from_numpy(numbers).double().T).abs()
    assert (error <= bound(states, numbers, min(group, 256))).all()


def test_cut_columns_multiply_as_the_whole_do() -> None:
    tensor, states = quantized("shared scales", 48, 192, 10), random_tensor(2, 192, seed=3)
    parts = [Span(0, 72), Span(72, 192)]
    found = [
        product(tiled(tensor.columns(part), WIDTH), states[:, part.start : part.stop])
        for part in parts
    ]
    numbers = tensor.dequantize()
    error = (sum(found) - states.double() @ torch.from_numpy(numbers).double().T).abs()
    assert (error <= 2 * bound(states, numbers, 8)).all()


def test_what_the_loops_cannot_take_becomes_numbers_once() -> None:
    device, states = torch.device("cpu"), random_tensor(2, 32)
    fractions = random_quantized(8, 32, table=True)
    pairs = random_quantized(8, 32, group=2)
    for tensor in (fractions, pairs):
        linear = make_quantized_linear(tensor, None, torch.float32, device)
        assert isinstance(linear, DenseLinear)
        assert not keeps_codes(tensor, device)
        expected = states @ torch.from_numpy(tensor.dequantize()).T
        torch.testing.assert_close(linear(states), expected, rtol=1e-5, atol=1e-5)


def test_layers_add_the_bias_and_follow_the_order_of_inputs() -> None:
    tensor, bias = quantized("integers", 40, 64, 11), random_tensor(40, seed=4)
    states, device = random_tensor(3, 64, seed=5), torch.device("cpu")
    order = np.random.default_rng(0).permutation(64)
    plain = make_quantized_linear(tensor, bias, torch.float32, device)
    in_order = replace(tensor, order=order)
    ordered = make_quantized_linear(in_order, bias, torch.float32, device)
    assert isinstance(plain, TiledLinear)
    assert isinstance(ordered, OrderedLinear)
    assert torch.equal(ordered(states), plain(states[:, order]))
    assert torch.equal(plain(states), product(tiled(tensor, WIDTH), states) + bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("result", DTYPES)
def test_a_product_of_states_in_a_buffer_is_said_once_and_made_each_time(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, result: torch.dtype
) -> None:
    states = ResultBuffer().empty((1, 96), torch.empty(0, dtype=dtype))
    for weight in weights(WIDTH)[:2]:
        linear, bias = TiledLinear(weight, None), TiledLinear(weight, random_tensor(150, seed=2))
        for seed in range(3):
            states.copy_(random_tensor(1, 96, seed=seed))
            expected = product(weight, states.clone(), result)
            assert torch.equal(linear(states, result), expected)
            assert torch.equal(bias(states, result), expected + random_tensor(150, seed=2))
            other = random_tensor(1, 96, seed=9, dtype=dtype)
            assert torch.equal(linear(other, result), product(weight, other, result))
            with monkeypatch.context() as patched:
                patched.setattr(TiledWeight, "_call", None)
                patched.setattr(TiledWeight, "_make_call", None)
                assert torch.equal(linear(states, result), expected)


def test_a_tied_weight_in_few_bits_is_kept_once_and_read_both_ways() -> None:
    tensor = quantized("levels", 70, 64, 12)
    embedding, head = make_quantized_tied(tensor, torch.bfloat16, torch.device("cpu"))
    numbers = torch.from_numpy(tensor.dequantize())
    assert torch.equal(embedding(torch.tensor([3, 69])), numbers[[3, 69]].bfloat16())
    assert isinstance(head, TiledLinear)


#: Multiplies, in a process of its own, as a CPU with AVX2 only does.
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+sse4.2,+ssse3",
}
MULTIPLY = """
import torch
from tests.support.tensors import random_tensor
from tests.unit.engine.backends.pytorch.kernels.tiled.test_products import product, weights
from tandem.engine.backends.pytorch.kernels.tiled.vectors import WIDTH, YMM
assert WIDTH == YMM
states = random_tensor(9, 96, seed=13)
torch.save([product(weight, states) for weight in weights(YMM)[:3]], "products.pt")
"""


@pytest.mark.skipif(not X86, reason="other processors have other registers")
def test_processors_with_avx2_only_multiply_to_the_same_bits(tmp_path: Path) -> None:
    environment = os.environ | AVX2 | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), *sys.path])
    subprocess.run([sys.executable, "-c", MULTIPLY], env=environment, cwd=tmp_path, check=True)
    found = torch.load(tmp_path / "products.pt")
    states = random_tensor(9, 96, seed=13)
    expected = [product(weight, states) for weight in weights(YMM)[:3]]
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
