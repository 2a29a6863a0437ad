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
OPTIONAL = {
    ".g_idx",
    ".weight_g_idx",
    ".weight_format",
    ".weight_zero_point",
    ".weight_global_scale",
}
Tensors = dict[str, torch.Tensor]


def read(directory: Path, config: dict[str, Any], tensors: Tensors, shape: tuple[int, int]) -> None:
    (directory / "config.json").write_text(json.dumps(config))
    save_file({NAME + suffix: tensor for suffix, tensor in tensors.items()}, directory / WEIGHTS)
    with open_weights(directory, "numpy", {f"{NAME}.weight": shape}) as weights:
        assert weights.quantized(f"{NAME}.weight") is not None


def sound(name: str) -> tuple[dict[str, Any], Tensors, tuple[int, int]]:
    kind = KINDS[name]
    rows, columns = (4 * unit for unit in kind.unit)
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
SCHEMES = [
    *("awq", "gptq", "gptq 3 bits in act-order", "mlx 4 bits", "mlx mxfp4"),
    *("fp8 in blocks", "fp8 of rows", "compressed int8 in groups", "compressed mxfp8"),
    *("compressed 4 bits, zero points", "compressed 4 bits in act-order", "compressed nvfp4"),
    *("mxfp4", "bitsandbytes nf4", "bitsandbytes nf4, nested", "bitsandbytes int8"),
]
#: What is not read.
UNREAD = {".weight_format"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", SCHEMES)
def test_a_damaged_tensor_is_named(tmp_path: Path, name: str, damage: str) -> None:
    config, tensors, shape = sound(name)
    read(tmp_path, config, tensors, shape)
    for suffix, tensor in tensors.items():
        if suffix in UNREAD or (tensor.dim() == 0 and damage != "of another dtype"):
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
        said = caught.value.message.removeprefix(str(tmp_path))
        assert NAME in said
        # Without what marks a matrix its other parts are tensors that nobody can read.
        assert any(word in said for word in ("missing", "dtype", "shape"))


@pytest.mark.parametrize("place", [-1, 4, 2**31 - 1])
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
        ("awq", "group_size", 64, "has 4 groups of 128 inputs, not of 64"),
        ("awq", "group_size", -2, "quantization_config.group_size is -2"),
        ("gptq", "bits", 5, "quantization_config.bits is 5"),
        ("gptq", "group_size", 0, "quantization_config.group_size is 0"),
        ("gptq", "group_size", 16, "has 4 groups of 128 inputs, not of 16"),
        ("gptq", "bits", 8, "has 4 bits for 128 outputs; expected (8,)"),
        ("gptq", "checkpoint_format", "marlin", "checkpoint_format is 'marlin'"),
        ("gptq", "is_marlin_format", True, "checkpoint_format is 'marlin'"),
        ("fp8 in blocks", "weight_block_size", [0, 128], "weight_block_size is [0, 128]"),
        ("fp8 in blocks", "weight_block_size", [128], "quantization_config: "),
        ("fp8 of ModelOpt", "quant_algo", "NVFP4", "quantization_config.quant_algo is 'NVFP4'"),
        ("compressed 4 bits", "format", "marlin-24", "quantization_config.format is 'marlin-24'"),
        (
            "compressed 4 bits",
            "config_groups",
            {},
            "has 16 words for 128 columns; expected [] bits",
        ),
        (
            "compressed 4 bits",
            "sparsity_config",
            {"format": "sparse-24-bitmask"},
            "sparsity_config.format is 'sparse-24-bitmask'",
        ),
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [64, 0]}, "says _State"),
        ({"shape": [64, -2]}, "says _State"),
        ({"shape": [2**40, 2**40]}, "has not the bytes of"),
        ({"blocksize": 0}, "says _State"),
        ({"blocksize": "64"}, "cannot be read"),
        ({"nested_blocksize": 0}, "nested_blocksize"),
        ({"nested_offset": "much"}, "cannot be read"),
    ],
)
def test_a_state_of_bitsandbytes_that_lies_is_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    config, tensors, shape = sound("bitsandbytes nf4, nested")
    state = ".weight.quant_state.bitsandbytes__nf4"
    said = json.loads(bytes(tensors[state].tolist())) | changes
    tensors[state] = torch.tensor(list(json.dumps(said).encode())).to(torch.uint8)
    with pytest.raises(CheckpointError, match=r"bitsandbytes__nf4 |weight ") as caught:
        read(tmp_path, config, tensors, shape)
    assert words in caught.value.message


def test_words_that_lie_about_their_matrix_are_refused(tmp_path: Path) -> None:
    config, tensors, shape = sound("compressed 4 bits, zero points")
    for lie in ([-2, 64], [0, 0], [2**62, 64], [2, 2**62]):
        damaged = tensors | {".weight_shape": torch.tensor(lie)}
        with pytest.raises(CheckpointError, match=r"model\.safetensors: tensor .*down_proj"):
            read(tmp_path, config, damaged, shape)
