"""AWQ and GPTQ: integers with scales and zero points."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from tests.support.quantizers.kinds import Codes, Kind, Random, Stored, scales, words

_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def _numbers(codes: Codes, zeros: Codes, factors: torch.Tensor, index: Any) -> Any:  # noqa: ANN401
    """`index` has each column's group."""
    distances = codes.astype(np.int32) - zeros.astype(np.int32)[:, index]
    return distances.astype(np.float32) * factors.float().numpy()[:, index]


def awq(random: Random, rows: int, columns: int, group: int, dtype: torch.dtype) -> Stored:
    group = columns if group == -1 else group
    codes = random.integers(0, 16, (rows, columns), np.uint8)
    zeros = random.integers(0, 16, (rows, columns // group), np.uint8)
    factors = scales(random, rows, columns // group, dtype)

    def packed(part: Codes) -> torch.Tensor:
        eights = part.T.reshape(part.shape[1], -1, 8)[:, :, _AWQ_ORDER]
        return words(eights.reshape(part.shape[1], -1), 4)

    tensors = {
        ".qweight": packed(codes),
        ".qzeros": packed(zeros),
        ".scales": factors.T.contiguous(),
    }
    return Stored(tensors, _numbers(codes, zeros, factors, np.arange(columns) // group))


def gptq(
    random: Random,
    rows: int,
    columns: int,
    bits: int,
    group: int,
    *,
    symmetric: bool = False,
    less_one: bool = True,
    act_order: bool = False,
    indexed: bool = True,
    dtype: torch.dtype = torch.float16,
) -> Stored:
    group = columns if group == -1 else group
    groups = -(-columns // group)
    codes = random.integers(0, 2**bits, (rows, columns), np.uint8)
    zeros = random.integers(1, 2**bits, (rows, groups), np.uint8)
    if symmetric:
        zeros[:] = 2 ** (bits - 1)
    factors = scales(random, rows, groups, dtype) / 2 ** (bits - 4 if bits > 4 else 0)
    index = np.arange(columns) // group
    if act_order:
        index = random.permutation(index)
    kept = zeros - 1 if less_one else zeros
    tensors = {
        ".qweight": words(codes, bits).T.contiguous(),
        ".qzeros": words(kept.T, bits),
        ".scales": factors.T.contiguous(),
    }
    if indexed:
        tensors[".g_idx"] = torch.from_numpy(index.astype(np.int32))
    return Stored(tensors, _numbers(codes, zeros, factors, index))


def _awq(group: int, dtype: torch.dtype) -> Kind:
    config = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": group,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": ["lm_head"],
    }
    make = functools.partial(awq, group=group, dtype=dtype)
    return Kind({"quantization_config": config}, make, (8, max(group, 2)))


def _gptq(bits: int, group: int, **options: Any) -> Kind:  # noqa: ANN401 - of `gptq`
    config = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": group,
        "desc_act": options.get("act_order", False),
        "sym": options.get("symmetric", False),
        "checkpoint_format": "gptq" if options.get("less_one", True) else "gptq_v2",
    }
    make = functools.partial(gptq, bits=bits, group=group, **options)
    return Kind({"quantization_config": config}, make, (32, max(group, 32)))


INTEGERS = {
    "awq": _awq(32, torch.float16),
    "awq in bfloat16, groups of 16": _awq(16, torch.bfloat16),
    "awq of whole rows": _awq(-1, torch.float16),
    "awq in float32": _awq(32, torch.float32),
    "gptq": _gptq(4, 32),
    "gptq of whole rows": _gptq(4, -1, symmetric=True),
    "gptq, symmetric": _gptq(4, 32, symmetric=True, indexed=False),
    "gptq in act-order": _gptq(4, 32, act_order=True),
    "gptq in act-order, symmetric": _gptq(4, 16, act_order=True, symmetric=True),
    "gptq in float32": _gptq(4, 16, act_order=True, dtype=torch.float32),
    "gptq 2 bits": _gptq(2, 32),
    "gptq 3 bits": _gptq(3, 32),
    "gptq 3 bits in act-order": _gptq(3, 16, act_order=True, less_one=False),
    "gptq 8 bits": _gptq(8, 32),
    "gptq 8 bits, symmetric": _gptq(8, 32, symmetric=True, dtype=torch.bfloat16),
    "gptq 8 bits in act-order": _gptq(8, 32, act_order=True),
    "gptq second version": _gptq(4, 32, less_one=False),
    "gptq second version in 8 bits": _gptq(8, 16, less_one=False),
}
