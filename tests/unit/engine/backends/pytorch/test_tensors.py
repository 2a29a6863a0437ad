"""Tensors as bytes and back, their sums and parts: what a link does with them."""

from __future__ import annotations

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine.backends.pytorch.dtypes import DTYPES
from tandem.engine.backends.pytorch.tensors import TorchTensors
from tandem.engine.core.tensors import RawTensor
from tandem.errors import ProtocolError

OPS = TorchTensors()
#: PyTorch may take its time over a first call.
anyhow = settings(deadline=None)

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3)
dtypes = st.sampled_from(list(DTYPES))


def received(raw: RawTensor) -> RawTensor:
    """As it comes from a link: in memory of its own."""
    return msgspec.structs.replace(raw, data=bytearray(raw.data))


@anyhow
@given(shape=shapes, dtype=dtypes, seed=st.integers(0, 99))
def test_bytes_become_the_same_tensor(shape: list[int], dtype: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=generator).to(DTYPES[dtype])
    raw = OPS.to_raw(tensor)
    assert (raw.dtype, raw.shape, len(raw.data)) == (dtype, shape, OPS.nbytes(tensor))
    assert OPS.from_raw(received(raw), tensor).equal(tensor)


def test_a_transposed_tensor_goes_in_the_order_of_its_rows() -> None:
    tensor = torch.arange(6.0).view(2, 3).T
    raw = OPS.to_raw(tensor)
    assert raw.shape == [3, 2]
    assert OPS.from_raw(received(raw), torch.empty(3, 2)).equal(tensor)


def test_only_the_last_dimension_may_be_another() -> None:
    raw = received(OPS.to_raw(torch.ones(2, 3)))
    assert OPS.from_raw(raw, torch.empty(2, 9)).shape == (2, 3)
    for like in (torch.empty(3, 3), torch.empty(2), torch.empty(2, 3, dtype=torch.bfloat16)):
        with pytest.raises(ProtocolError, match="came in place of"):
            OPS.from_raw(raw, like)


@pytest.mark.parametrize("size", [0, 23, 25])
def test_bytes_must_fill_the_shape(size: int) -> None:
    with pytest.raises(ProtocolError, match="bytes came for a tensor"):
        OPS.from_raw(RawTensor("float32", [2, 3], bytearray(size)), torch.empty(2, 3))


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ProtocolError, match="float8"):
        OPS.from_raw(RawTensor("float8", [1], bytearray(1)), torch.empty(1))


def test_sums_of_narrow_numbers_are_rounded_once() -> None:
    parts = [torch.tensor([number], dtype=torch.bfloat16) for number in (256.0, 0.75, 0.75)]
    assert OPS.sum(parts).tolist() == [258.0]  # step by step each addend would be lost
    assert OPS.sum(parts).dtype == torch.bfloat16


@anyhow
@given(first=st.floats(width=16), second=st.floats(width=16), dtype=dtypes)
def test_two_numbers_have_one_sum_in_either_order(first: float, second: float, dtype: str) -> None:
    one, other = (torch.tensor([number]).to(DTYPES[dtype]) for number in (first, second))
    exact = (one.float() + other.float()).to(DTYPES[dtype])
    for parts in ([one, other], [other, one]):
        assert repr(OPS.sum(parts).item()) == repr(exact.item())


@anyhow
@given(rows=st.integers(0, 20), parts=st.integers(1, 6))
def test_parts_are_joined_again(rows: int, parts: int) -> None:
    tensor = torch.arange(float(rows * 2)).view(rows, 2)
    split = OPS.split(tensor, parts)
    lengths = [OPS.rows(part) for part in split]
    assert len(split) == parts
    assert max(lengths) - min(lengths) <= 1
    assert OPS.join(split, 0).equal(tensor)


def test_columns_are_joined_in_order() -> None:
    joined = OPS.join([torch.zeros(2, 1), torch.ones(2, 2)], -1)
    assert joined.tolist() == [[0.0, 1.0, 1.0]] * 2
