"""What a scheme makes of a matrix, and a checkpoint whose matrices it has quantised."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Random = np.random.Generator
WEIGHTS = "model.safetensors"


class Stored(NamedTuple):
    """`tensors` by what their names end in, after the module's; `numbers` are what they mean."""

    tensors: dict[str, torch.Tensor]
    numbers: Floats


class Kind(NamedTuple):
    """`config` are fields of a `config.json`; rows and columns are multiples of `unit`."""

    config: Mapping[str, Any]
    make: Callable[[Random, int, int], Stored]
    unit: tuple[int, int]
    embeds: bool = False


def quantize(checkpoint: Path, kind: Kind, directory: Path, seed: int = 0) -> tuple[Path, Path]:
    """The checkpoint with random matrices as the scheme stores them, and as plain numbers.

    Those whose shape does not suit it stay as they are, as routers do.
    """
    few, wide = directory / "few", directory / "wide"
    for folder in (few, wide):
        shutil.copytree(checkpoint, folder)
    config = few / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | dict(kind.config)))
    random = np.random.default_rng(seed)
    narrow, plain = load_file(few / WEIGHTS), load_file(few / WEIGHTS)
    for name, tensor in plain.items():
        module = name.removesuffix(".weight")
        is_end = "layers." not in name
        if tensor.dim() != 2 or (is_end and not kind.embeds):
            continue
        if any(extent % unit for extent, unit in zip(tensor.shape, kind.unit, strict=True)):
            continue
        stored = kind.make(random, *tensor.shape)
        del narrow[name]
        narrow |= {module + suffix: part for suffix, part in stored.tensors.items()}
        plain[name] = torch.from_numpy(stored.numbers)
    save_file(narrow, few / WEIGHTS)
    save_file(plain, wide / WEIGHTS)
    return few, wide


def scales(random: Random, rows: int, groups: int, dtype: torch.dtype) -> torch.Tensor:
    """Such that codes of four bits make weights as of a model."""
    drawn = random.uniform(0.002, 0.02, (rows, groups)).astype(np.float32)
    return torch.from_numpy(drawn).to(dtype)


def words(codes: npt.NDArray[Any], bits: int) -> torch.Tensor:
    """(rows, codes) → int32 (rows, words): a stream of bits each, the lowest first."""
    rows, count = codes.shape
    each = codes[..., None].astype(np.uint32) >> np.arange(bits, dtype=np.uint32) & 1
    stream = each.reshape(rows, count * bits // 32, 32).astype(np.uint32)
    packed = (stream << np.arange(32, dtype=np.uint32)).sum(-1, dtype=np.uint32)
    return torch.from_numpy(packed.view(np.int32))
