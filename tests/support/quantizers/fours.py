"""Four bits and fewer: compressed-tensors' words, MXFP4, NVFP4, NF4 and FP4."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tests.support.quantizers.kinds import Codes, Floats, Kind, Random, Stored, scales
from tests.support.quantizers.small_floats import E2M1, e4m3, powers


def _padded_words(codes: npt.NDArray[Any], bits: int) -> torch.Tensor:
    """(rows, codes) → int32 (rows, words); the last word is filled up with zeros."""
    stream = np.unpackbits(codes.astype(np.uint8)[..., None], axis=-1, bitorder="little")
    flat = stream[..., :bits].reshape(len(codes), -1)
    filled = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 32)))
    packed = np.packbits(filled, axis=-1, bitorder="little")
    return torch.from_numpy(np.ascontiguousarray(packed).view(np.int32))


def packed(
    random: Random,
    rows: int,
    columns: int,
    *,
    bits: int = 4,
    group: int = 32,
    zeros: str = "",
    act_order: bool = False,
    dtype: torch.dtype = torch.bfloat16,
) -> Stored:
    """`zeros` are `packed`, `bytes`, or none; a `group` of 0 is a tensor, of -1 a row."""
    half = 2 ** (bits - 1)
    groups = 1 if group < 1 else columns // group
    codes = random.integers(-half, half, (rows, columns))
    factors = scales(random, 1 if group == 0 else rows, groups, dtype)
    index = np.arange(columns) // (columns // groups)
    if act_order:
        index = random.permutation(index)
    points = np.zeros((rows, groups), np.int64)
    tensors = {
        ".weight_packed": _padded_words(codes + half, bits),
        ".weight_scale": factors.reshape(-1) if group == 0 else factors,
        ".weight_shape": torch.tensor([rows, columns]),
    }
    if zeros:
        points = random.integers(-half, half, (rows, groups))
    if zeros == "packed":
        tensors[".weight_zero_point"] = _padded_words((points + half).T, bits).T.contiguous()
    elif zeros:
        tensors[".weight_zero_point"] = torch.from_numpy(points.astype(np.int8))
    if act_order:
        tensors[".weight_g_idx"] = torch.from_numpy(index.astype(np.int32))
    every = np.broadcast_to(factors.float().numpy(), (rows, groups))
    distances = (codes - points[:, index]).astype(np.float32)
    return Stored(tensors, distances * every[:, index])


def _nibbles(codes: Codes) -> torch.Tensor:
    return torch.from_numpy(codes[:, ::2] | codes[:, 1::2] << 4)


def mxfp4(random: Random, rows: int, columns: int) -> Stored:
    codes = random.integers(0, 16, (rows, columns), np.uint8)
    exponents = random.integers(118, 122, (rows, columns // 32), np.uint8)
    tensors = {
        ".weight_packed": _nibbles(codes),
        ".weight_scale": torch.from_numpy(exponents),
    }
    return Stored(tensors, E2M1[codes] * powers(exponents)[:, np.arange(columns) // 32])


def mxfp4_blocks(random: Random, rows: int, columns: int) -> Stored:
    stored = mxfp4(random, rows, columns)
    blocks = stored.tensors[".weight_packed"].reshape(rows, columns // 32, 16)
    tensors = {".weight_blocks": blocks, ".weight_scales": stored.tensors[".weight_scale"]}
    return Stored(tensors, stored.numbers)


def nvfp4(random: Random, rows: int, columns: int) -> Stored:
    codes = random.integers(0, 16, (rows, columns), np.uint8)
    factors = random.integers(0x30, 0x70, (rows, columns // 16), np.uint8)
    whole = np.float32(random.uniform(1e3, 1e4))
    tensors = {
        ".weight_packed": _nibbles(codes),
        ".weight_scale": torch.from_numpy(factors).view(torch.float8_e4m3fn),
        ".weight_global_scale": torch.tensor([whole]),
    }
    each = e4m3(factors) / whole
    return Stored(tensors, E2M1[codes] * each[:, np.arange(columns) // 16])


def bits_and_bytes(
    random: Random, rows: int, columns: int, *, kind: str, block: int = 64, nested: bool = False
) -> Stored:
    meaning = np.sort(random.uniform(-1, 1, 16).astype(np.float32))
    count = rows * columns
    codes = random.integers(0, 16, count + count % 2, np.uint8)
    blocks = -(-count // block)
    state: dict[str, Any] = {
        "quant_type": kind,
        "blocksize": block,
        "dtype": "bfloat16",
        "shape": [rows, columns],
    }
    tensors = {
        ".weight": torch.from_numpy(codes[::2] << 4 | codes[1::2]).reshape(-1, 1),
        ".weight.quant_map": torch.from_numpy(meaning),
    }
    largest: Floats = random.uniform(0.02, 0.2, blocks).astype(np.float32)
    if nested:
        inner = random.integers(0, 256, blocks, np.uint8)
        scale = random.uniform(-1, 1, 256).astype(np.float32)
        outer = random.uniform(0.01, 0.02, -(-blocks // 16)).astype(np.float32)
        state |= {"nested_blocksize": 16, "nested_dtype": "float32", "nested_offset": 0.1234}
        tensors |= {
            ".weight.absmax": torch.from_numpy(inner),
            ".weight.nested_absmax": torch.from_numpy(outer),
            ".weight.nested_quant_map": torch.from_numpy(scale),
        }
        largest = scale[inner] * outer[np.arange(blocks) // 16] + np.float32(0.1234)
    else:
        tensors[".weight.absmax"] = torch.from_numpy(largest)
    said = json.dumps(state).encode()
    tensors[f".weight.quant_state.bitsandbytes__{kind}"] = torch.tensor(list(said)).to(torch.uint8)
    numbers = meaning[codes[:count]] * largest[np.arange(count) // block]
    return Stored(tensors, numbers.reshape(rows, columns))


def _packed(unit: tuple[int, int], **options: Any) -> Kind:  # noqa: ANN401 - of `packed`
    group = options.get("group", 32)
    weights = {"num_bits": options.get("bits", 4), "group_size": group if group > 0 else None}
    config = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }
    return Kind({"quantization_config": config}, functools.partial(packed, **options), unit)


def _small(form: str, make: Any) -> Kind:  # noqa: ANN401 - a function
    config = {"format": form, "config_groups": {"group_0": {"targets": ["Linear"]}}}
    return Kind({"compression_config": config}, make, (1, 32))


def _bits_and_bytes(unit: tuple[int, int], **options: Any) -> Kind:  # noqa: ANN401
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    make = functools.partial(bits_and_bytes, **options)
    return Kind({"quantization_config": config}, make, unit)


FOURS = {
    "compressed 4 bits": _packed((1, 32)),
    "compressed 4 bits, zero points": _packed((1, 32), zeros="packed"),
    "compressed 4 bits, zero points in bytes": _packed((1, 32), zeros="bytes"),
    "compressed 4 bits of rows": _packed((1, 2), group=-1),
    "compressed 4 bits of a tensor": _packed((1, 2), group=0),
    "compressed 4 bits in act-order": _packed((1, 32), act_order=True, zeros="packed"),
    "compressed 4 bits in float32": _packed((1, 32), zeros="packed", dtype=torch.float32),
    "compressed 8 bits": _packed((1, 32), bits=8),
    "compressed 8 bits, zero points": _packed((1, 32), bits=8, zeros="packed"),
    "compressed 3 bits": _packed((1, 32), bits=3, zeros="packed"),
    "compressed 3 bits of rows": _packed((1, 1), bits=3, group=-1, zeros="packed"),
    "compressed 6 bits of rows": _packed((1, 1), bits=6, group=-1),
    "compressed mxfp4": _small("mxfp4-pack-quantized", mxfp4),
    "compressed nvfp4": _small("nvfp4-pack-quantized", nvfp4),
    "mxfp4": Kind({"quantization_config": {"quant_method": "mxfp4"}}, mxfp4_blocks, (1, 32)),
    "bitsandbytes nf4": _bits_and_bytes((1, 1), kind="nf4"),
    "bitsandbytes nf4, nested": _bits_and_bytes((1, 1), kind="nf4", nested=True),
    "bitsandbytes fp4": _bits_and_bytes((1, 32), kind="fp4", block=128, nested=True),
}
