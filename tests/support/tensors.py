"""Random tensors, and how close two computations of the same must come."""

from __future__ import annotations

import torch

DTYPES = [torch.float32, torch.bfloat16]
#: Of the largest number, by dtype: the order of a sum, or one rounding more.
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7}


def random_tensor(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    bound = _TOLERANCE[found.dtype] * max(1.0, float(expected.abs().max()))
    assert float((found.float() - expected.float()).abs().max()) <= bound
