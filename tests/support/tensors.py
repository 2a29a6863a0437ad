"""Random tensors, and how close two computations of the same must come."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from tandem.engine.checkpoint.quantized.tensor import Codes, QuantizedTensor, Scales

DTYPES = [torch.float32, torch.bfloat16]
#: Of the largest number, by dtype: the order of a sum, or one rounding more.
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7}


def random_tensor(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    bound = _TOLERANCE[found.dtype] * max(1.0, float(expected.abs().max()))
    assert float((found.float() - expected.float()).abs().max()) <= bound


def random_quantized(
    rows: int,
    columns: int,
    *,
    bits: int = 4,
    group: int = 32,
    inner: int = 1,
    minimums: bool = True,
    table: bool = False,
    seed: int = 0,
) -> QuantizedTensor:
    """`inner` above 1: so many groups share a scale that is wider than their own."""
    random = np.random.default_rng(seed)
    signed = bits == 8 and not table
    codes: Codes = random.integers(0, 256, (rows, columns * bits // 8), np.uint8)
    groups = columns // group

    def scales() -> Scales:
        outer = random.normal(0, 0.02, (rows, groups // inner)).astype(np.float16)
        whole = random.integers(0, 64, (rows, groups), np.uint8) if inner > 1 else None
        return Scales(outer.astype(np.float32), whole)

    return QuantizedTensor(
        codes=codes.view(np.int8) if signed else codes,
        bits=bits,
        group=group,
        scales=scales(),
        minimums=scales() if minimums else None,
        table=random.normal(0, 4, 2**bits).astype(np.float32) if table else None,
    )


@st.composite
def drawn_tensors(draw: st.DrawFn) -> QuantizedTensor:
    group = draw(st.sampled_from([2, 4, 16, 32]))
    inner = draw(st.sampled_from([1, 2, 4]))
    return random_quantized(
        draw(st.integers(1, 5)),
        group * inner * draw(st.integers(1, 4)),
        bits=draw(st.sampled_from([4, 8])),
        group=group,
        inner=inner,
        minimums=draw(st.booleans()),
        table=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )
