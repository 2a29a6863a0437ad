"""FP8 and int8 with scales of tensors, rows and blocks, under the names that they have."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tests.support.quantizers.kinds import Kind, Random, Stored
from tests.support.quantizers.small_floats import e4m3, e5m2, powers

Block = tuple[int, int]


def _scales(random: Random, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(random.uniform(1e-4, 1e-3, shape).astype(np.float32)).to(dtype)


def floats(
    random: Random,
    rows: int,
    columns: int,
    *,
    shape: str = "block",
    block: Block = (16, 32),
    name: str = ".weight_scale_inv",
    dtype: torch.dtype = torch.float32,
    small: torch.dtype = torch.float8_e4m3fn,
) -> Stored:
    """`shape` is `block`, `row`, `rows` without a second dimension, `tensor`, or `number`."""
    meant = e4m3 if small is torch.float8_e4m3fn else e5m2
    codes = random.integers(0, 256, (rows, columns), np.uint8)
    codes[~(np.abs(meant(codes)) < 60)] = 1  # neither no numbers nor such as stand out
    factors, spread = _spread(random, rows, columns, shape, block, dtype)
    tensors = {".weight": torch.from_numpy(codes).view(small), name: factors}
    return Stored(tensors, meant(codes) * spread)


def integers(random: Random, rows: int, columns: int, *, shape: str, zeros: bool = False) -> Stored:
    codes = random.integers(-128, 128, (rows, columns)).astype(np.int8)
    factors, spread = _spread(random, rows, columns, shape, (1, 32), torch.bfloat16)
    tensors = {".weight": torch.from_numpy(codes), ".weight_scale": factors}
    distances = codes.astype(np.float32)
    if zeros:
        points = random.integers(-20, 20, factors.shape).astype(np.int8)
        tensors[".weight_zero_point"] = torch.from_numpy(points)
        distances -= _over(points, rows, columns, shape, (1, 32))
    return Stored(tensors, distances * spread)


def powers_of_two(random: Random, rows: int, columns: int) -> Stored:
    """MXFP8."""
    codes = random.integers(0, 0x70, (rows, columns), np.uint8)
    exponents = random.integers(108, 112, (rows, columns // 32), np.uint8)
    tensors = {
        ".weight": torch.from_numpy(codes).view(torch.float8_e4m3fn),
        ".weight_scale": torch.from_numpy(exponents),
    }
    return Stored(tensors, e4m3(codes) * powers(exponents)[:, np.arange(columns) // 32])


def bits_and_bytes(random: Random, rows: int, columns: int) -> Stored:
    codes = random.integers(-127, 128, (rows, columns)).astype(np.int8)
    largest = random.uniform(0.05, 0.2, rows).astype(np.float16).astype(np.float32)
    tensors = {
        ".weight": torch.from_numpy(codes),
        ".SCB": torch.from_numpy(largest),
        ".weight_format": torch.tensor(0, dtype=torch.uint8),
    }
    return Stored(tensors, codes.astype(np.float32) * (largest * np.float32(1 / 127))[:, None])


def _spread(
    random: Random, rows: int, columns: int, shape: str, block: Block, dtype: torch.dtype
) -> tuple[torch.Tensor, npt.NDArray[np.float32]]:
    shapes = {
        "block": (-(-rows // block[0]), -(-columns // block[1])),
        "row": (rows, 1),
        "rows": (rows,),
        "tensor": (1,),
        "number": (),
    }
    factors = _scales(random, shapes[shape], dtype)
    return factors, _over(factors.float().numpy(), rows, columns, shape, block)


def _over(
    numbers: npt.NDArray[Any], rows: int, columns: int, shape: str, block: Block
) -> npt.NDArray[np.float32]:
    """Each number's, in a matrix."""
    if shape == "block":
        each = numbers[np.arange(rows) // block[0]][:, np.arange(columns) // block[1]]
    elif shape in ("row", "rows"):
        each = np.broadcast_to(numbers.reshape(rows, 1), (rows, columns))
    else:
        each = np.broadcast_to(numbers.reshape(1, 1), (rows, columns))
    return each.astype(np.float32)


def _fp8(unit: Block, stated: Mapping[str, Any], **options: Any) -> Kind:  # noqa: ANN401
    config = {"quant_method": "fp8", "activation_scheme": "dynamic", **stated}
    return Kind({"quantization_config": config}, functools.partial(floats, **options), unit)


def _compressed(form: str, make: Any, unit: Block = (1, 1), **weights: Any) -> Kind:  # noqa: ANN401
    group = {"targets": ["Linear"], "weights": weights}
    config = {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", "re:.*gate$"],
    }
    return Kind({"quantization_config": config}, make, unit)


_BLOCKS = {"weight_block_size": [16, 32]}
_OURS: dict[str, Any] = {"name": ".weight_scale"}

EIGHTS = {
    "fp8 in blocks": _fp8((8, 16), _BLOCKS),
    "fp8 in blocks, in bfloat16": _fp8((16, 32), _BLOCKS, dtype=torch.bfloat16),
    "fp8 of a tensor": _fp8((1, 1), {}, shape="number"),
    "fp8 of a tensor, static": _fp8((1, 1), {}, shape="tensor", **_OURS),
    "fp8 of rows": _fp8((1, 1), {"quant_method": "fbgemm_fp8"}, shape="row", **_OURS),
    "fp8 e5m2": _fp8((1, 1), {}, shape="rows", small=torch.float8_e5m2, **_OURS),
    "fp8 of ModelOpt": _fp8(
        (1, 1), {"quant_method": "modelopt", "quant_algo": "FP8"}, shape="number", **_OURS
    ),
    "compressed fp8 of rows": _compressed(
        "float-quantized", functools.partial(floats, shape="row", dtype=torch.bfloat16, **_OURS)
    ),
    "compressed fp8 in blocks": _compressed(
        "float-quantized",
        functools.partial(floats, **_OURS),
        (8, 16),
        strategy="block",
        block_structure=[16, 32],
    ),
    "compressed int8 of rows": _compressed(
        "int-quantized", functools.partial(integers, shape="row")
    ),
    "compressed int8 of a tensor": _compressed(
        "naive-quantized", functools.partial(integers, shape="tensor", zeros=True)
    ),
    "compressed int8 in groups": _compressed(
        "naive-quantized",
        functools.partial(integers, shape="block", zeros=True),
        (1, 32),
        group_size=32,
    ),
    "compressed mxfp8": _compressed("mxfp8-quantized", powers_of_two, (1, 32), group_size=32),
    "bitsandbytes int8": Kind(
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        bits_and_bytes,
        (1, 1),
    ),
}
