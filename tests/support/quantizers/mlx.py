"""MLX: words of codes with scales and biases, and formats of small floating-point numbers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from tests.support.quantizers.kinds import Kind, Random, Stored, scales, words
from tests.support.quantizers.small_floats import E2M1, e4m3, powers


def affine(
    random: Random, rows: int, columns: int, bits: int, group: int, dtype: torch.dtype
) -> Stored:
    codes = random.integers(0, 2**bits, (rows, columns), np.uint8)
    factors = scales(random, rows, columns // group, dtype) * 2.0 ** (4 - bits)
    biases = -factors * 2 ** (bits - 1) + scales(random, rows, columns // group, dtype)
    index = np.arange(columns) // group
    numbers = codes.astype(np.float32) * factors.float().numpy()[:, index]
    tensors = {
        ".weight": words(codes, bits).view(torch.uint32),
        ".scales": factors,
        ".biases": biases,
    }
    return Stored(tensors, numbers + biases.float().numpy()[:, index])


def small(random: Random, rows: int, columns: int, mode: str) -> Stored:
    bits, group = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}[mode]
    codes = random.integers(0, 2**bits, (rows, columns), np.uint8)
    if bits == 8:
        codes[codes & 0x7F == 0x7F] = 0  # no numbers
    exponents = random.integers(116, 121, (rows, columns // group), np.uint8)
    if mode == "nvfp4":
        exponents = random.integers(1, 32, (rows, columns // group), np.uint8)
    factors = e4m3(exponents) if mode == "nvfp4" else powers(exponents)
    meant = E2M1[codes] if bits == 4 else e4m3(codes)
    tensors = {
        ".weight": words(codes, bits).view(torch.uint32),
        ".scales": torch.from_numpy(exponents),
    }
    return Stored(tensors, meant * factors[:, np.arange(columns) // group])


def _kind(bits: int, group: int, dtype: torch.dtype, **modules: Any) -> Kind:  # noqa: ANN401
    stated = {"group_size": group, "bits": bits, **modules}
    make = functools.partial(affine, bits=bits, group=group, dtype=dtype)
    config = {"quantization": stated, "quantization_config": stated}
    return Kind(config, make, (1, max(group, 32)), embeds=True)


def _small(mode: str, bits: int, group: int) -> Kind:
    stated = {"group_size": group, "bits": bits, "mode": mode}
    make = functools.partial(small, mode=mode)
    return Kind({"quantization": stated}, make, (1, 32), embeds=True)


MLX = {
    **{f"mlx {bits} bits": _kind(bits, 32, torch.bfloat16) for bits in (2, 3, 4, 5, 6, 8)},
    "mlx 4 bits in float16, groups of 64": _kind(4, 64, torch.float16),
    "mlx 4 bits in float32": _kind(4, 32, torch.float32),
    "mlx mxfp4": _small("mxfp4", 4, 32),
    "mlx mxfp8": _small("mxfp8", 8, 32),
    "mlx nvfp4": _small("nvfp4", 4, 16),
}
