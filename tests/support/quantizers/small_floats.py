"""What codes of four and eight bits mean as numbers; of eight as PyTorch has them."""

from __future__ import annotations

import numpy as np
import torch
from tests.support.quantizers.kinds import Codes, Floats

_POSITIVE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1: Floats = np.array([*_POSITIVE, *(-number for number in _POSITIVE)], np.float32)


def e4m3(codes: Codes) -> Floats:
    return _float(codes, torch.float8_e4m3fn)


def e5m2(codes: Codes) -> Floats:
    return _float(codes, torch.float8_e5m2)


def powers(codes: Codes) -> Floats:
    """Of two, 127 being 1."""
    return np.ldexp(np.float32(1), codes.astype(np.int32) - 127)


def _float(codes: Codes, dtype: torch.dtype) -> Floats:
    numbers: Floats = torch.from_numpy(codes).view(dtype).float().numpy()
    return numbers
