"""What is wrong with a quantised checkpoint is said of its file, its tensor or its field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.support.quantizers import KINDS

from tandem.engine.checkpoint.formats import open_weights
from tandem.errors import CheckpointError

NAME = "model.layers.0.mlp.down_proj"
WEIGHTS = "model.safetensors"
#: What a matrix may be without.
OPTIONAL = {".g_idx"}
Tensors = dict[str, torch.Tensor]


def read(directory: Path, config: dict[str, Any], tensors: Tensors, shape: tuple[int, int]) -> None:
    (directory / "config.json").write_text(json.dumps(config))
    save_file({NAME + suffix: tensor for suffix, tensor in tensors.items()}, directory / WEIGHTS)
    with open_weights(directory, "numpy", {f"{NAME}.weight": shape}) as weights:
        assert weights.quantized(f"{NAME}.weight") is not None


def sound(name: str) -> tuple[dict[str, Any], Tensors, tuple[int, int]]:
    kind = KINDS[name]
    rows, columns = (2 * unit for unit in kind.unit)
    stored = kind.make(np.random.default_rng(0), rows, columns)
    return json.loads(json.dumps(kind.config)), dict(stored.tensors), (rows, columns)


def _cut(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:-1].clone()


def _narrowed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[..., :-1].contiguous()


def _stacked(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[None]


def _emptied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:0].clone()


def _otherwise(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float64)


DAMAGES = {
    "cut": _cut,
    "narrowed": _narrowed,
    "stacked": _stacked,
    "emptied": _emptied,
    "of another dtype": _otherwise,
}
#: A kind of each scheme.
SCHEMES = ["awq", "gptq", "gptq 3 bits in act-order", "mlx 4 bits", "mlx mxfp4"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", SCHEMES)
def test_a_damaged_tensor_is_named(tmp_path: Path, name: str, damage: str) -> None:
    config, tensors, shape = sound(name)
    read(tmp_path, config, tensors, shape)
    for suffix, tensor in tensors.items():
        if tensor.dim() == 0 and damage != "of another dtype":
            continue
        damaged = tensors | {suffix: DAMAGES[damage](tensor)}
        with pytest.raises(CheckpointError) as caught:
            read(tmp_path, config, damaged, shape)
        assert f"{WEIGHTS}: tensor {NAME}" in caught.value.message


@pytest.mark.parametrize("name", SCHEMES)
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    config, tensors, shape = sound(name)
    for suffix in tensors.keys() - OPTIONAL:
        with pytest.raises(CheckpointError) as caught:
            read(tmp_path, config, {s: t for s, t in tensors.items() if s != suffix}, shape)
        assert NAME in caught.value.message
        assert "missing" in caught.value.message


@pytest.mark.parametrize("place", [-1, 2, 2**31 - 1])
def test_a_group_that_there_is_not_is_refused(tmp_path: Path, place: int) -> None:
    config, tensors, shape = sound("gptq in act-order")
    tensors[".g_idx"] = tensors[".g_idx"].clone()
    tensors[".g_idx"][3] = place
    with pytest.raises(CheckpointError, match=r"model\.safetensors: tensor .*g_idx names groups"):
        read(tmp_path, config, tensors, shape)


def test_act_order_needs_its_order(tmp_path: Path) -> None:
    config, tensors, shape = sound("gptq in act-order")
    del tensors[".g_idx"]
    with pytest.raises(CheckpointError, match=r"qweight is in act-order, and its g_idx is missing"):
        read(tmp_path, config, tensors, shape)


@pytest.mark.parametrize(
    ("name", "field", "value", "words"),
    [
        ("awq", "quant_method", "exl2", "quantization_config.quant_method is 'exl2'"),
        ("awq", "quant_method", None, "quantization_config.quant_method is None"),
        ("awq", "quant_method", ["awq"], "expected one of awq, "),
        ("awq", "bits", 3, "quantization_config.bits is 3"),
        ("awq", "bits", "4", "quantization_config: Expected `int | null`, got `str`"),
        ("awq", "version", "gemv", "quantization_config.version is 'gemv'"),
        ("gptq", "bits", 5, "quantization_config.bits is 5"),
        ("gptq", "group_size", 0, "quantization_config.group_size is 0"),
        ("gptq", "group_size", 16, "has 2 groups of 64 inputs, not of 16"),
        ("gptq", "bits", 8, "has 4 bits for 64 outputs; expected (8,)"),
        ("gptq", "checkpoint_format", "marlin", "checkpoint_format is 'marlin'"),
        ("gptq", "is_marlin_format", True, "checkpoint_format is 'marlin'"),
        ("mlx 4 bits", "bits", 7, "quantization.bits is 7"),
        ("mlx 4 bits", "group_size", 0, "quantization.group_size is 0"),
        ("mlx 4 bits", "mode", "odd", "quantization.mode is 'odd'"),
        ("mlx mxfp4", "group_size", 64, "quantization.mode is 'mxfp4, bits 4, group_size 64'"),
        ("mlx 4 bits", "lm_head", {"bits": 1}, "quantization.lm_head.bits is 1"),
    ],
)
def test_a_setting_that_is_not_supported_is_named(
    tmp_path: Path, name: str, field: str, value: object, words: str
) -> None:
    config, tensors, shape = sound(name)
    next(iter(config.values()))[field] = value
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, config, tensors, shape)
    assert words in caught.value.message
    assert str(tmp_path) in caught.value.message


def test_settings_are_an_object(tmp_path: Path) -> None:
    _, tensors, shape = sound("awq")
    with pytest.raises(CheckpointError, match=r"config\.json: quantization_config is not an obj"):
        read(tmp_path, {"quantization_config": 4}, tensors, shape)
