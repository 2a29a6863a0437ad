"""Settings as published checkpoints state them, in full, and the tensors that lie beside theirs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.models.divided import Runner
from tests.support.quantizers import KINDS, Stored, quantize
from tests.support.quantizers.eights import floats, integers
from tests.support.quantizers.integers import awq, gptq
from tests.support.quantizers.mlx import affine

from tandem.engine import inspect_checkpoint
from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError

LAYER = "model.layers.0"
NAME = f"{LAYER}.mlp.down_proj"
SHAPE = (128, 256)
Fields = dict[str, Any]


class Published(NamedTuple):
    """`beside` are tensors that nothing is computed with."""

    fields: Fields
    make: Callable[[np.random.Generator, int, int], Stored]
    beside: Mapping[str, torch.Tensor] = MappingProxyType({})


NO_BIAS = {f"{NAME}.bias": torch.zeros(SHAPE[0], dtype=torch.float16)}
OPTIMUM = {
    "batch_size": 1,
    "bits": 4,
    "block_name_to_quantize": None,
    "cache_block_outputs": True,
    "damp_percent": 0.01,
    "dataset": None,
    "desc_act": False,
    "exllama_config": {"version": 1},
    "group_size": 128,
    "max_input_length": None,
    "modules_in_block_to_quantize": None,
    "quant_method": "gptq",
    "sym": True,
    "tokenizer": None,
    "true_sequential": True,
    "use_exllama": True,
}
GPTQ_MODEL = {
    "bits": 4,
    "checkpoint_format": "gptq",
    "desc_act": None,
    "dynamic": None,
    "group_size": 128,
    "is_marlin_format": None,
    "lm_head": False,
    "meta": {"damp_percent": 0.05, "mse": 0.0, "quantizer": ["gptqmodel:4.0.0"]},
    "pack_dtype": "int32",
    "quant_method": "gptq",
    "sym": True,
}
BNB = {
    "_load_in_4bit": True,
    "_load_in_8bit": False,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "uint8",
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "llm_int8_enable_fp32_cpu_offload": False,
    "llm_int8_has_fp16_weight": False,
    "llm_int8_skip_modules": ["lm_head", "model.layers.1.mlp"],
    "llm_int8_threshold": 6.0,
    "load_in_4bit": True,
    "load_in_8bit": False,
    "quant_method": "bitsandbytes",
}


def _compressed(form: str, activations: Fields | None, **weights: Any) -> Fields:  # noqa: ANN401
    stated: Fields = {
        "actorder": None,
        "block_structure": None,
        "dynamic": False,
        "group_size": None,
        "observer": "minmax",
        "observer_kwargs": {},
        "symmetric": True,
    }
    group = {
        "input_activations": activations,
        "output_activations": None,
        "targets": ["Linear"],
        "weights": stated | weights,
    }
    fields = {
        "config_groups": {"group_0": group},
        "format": form,
        "global_compression_ratio": 1.5,
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        "version": "0.10.2",
    }
    return {"quantization_config": fields}


def _mlx(**stated: object) -> Fields:
    return {"quantization": stated, "quantization_config": stated}


_OURS: Fields = {"name": ".weight_scale", "dtype": torch.bfloat16}
_ROWS = functools.partial(floats, shape="row", **_OURS)
_GPTQ = functools.partial(gptq, bits=4, group=128, symmetric=True)
PUBLISHED = {
    "AutoAWQ": Published(
        {
            "quantization_config": {
                "bits": 4,
                "group_size": 128,
                "modules_to_not_convert": None,
                "quant_method": "awq",
                "version": "gemm",
                "zero_point": True,
            }
        },
        functools.partial(awq, group=128, dtype=torch.float16),
    ),
    "optimum": Published({"quantization_config": OPTIMUM}, _GPTQ, NO_BIAS),
    "optimum in act-order": Published(
        {"quantization_config": OPTIMUM | {"desc_act": True}},
        functools.partial(_GPTQ, act_order=True),
        NO_BIAS,
    ),
    "GPTQModel": Published({"quantization_config": GPTQ_MODEL}, _GPTQ),
    "compressed FP8 of rows": Published(
        _compressed(
            "float-quantized",
            {"dynamic": True, "num_bits": 8, "strategy": "token", "type": "float"},
            num_bits=8,
            strategy="channel",
            type="float",
        ),
        _ROWS,
    ),
    "compressed W8A8": Published(
        _compressed(
            "int-quantized",
            {"dynamic": True, "num_bits": 8, "strategy": "token", "type": "int"},
            num_bits=8,
            strategy="channel",
            type="int",
        ),
        functools.partial(integers, shape="row"),
    ),
    "AutoFP8 with a quantised cache": Published(
        {
            "quantization_config": {
                "activation_scheme": "static",
                "ignored_layers": ["lm_head"],
                "kv_cache_scheme": "static",
                "quant_method": "fp8",
            }
        },
        functools.partial(floats, shape="number", **_OURS),
        {f"{LAYER}.self_attn.kv_scale": torch.ones(1), f"{NAME}.input_scale": torch.ones(1)},
    ),
    "DeepSeek": Published(
        {
            "quantization_config": {
                "activation_scheme": "dynamic",
                "fmt": "e4m3",
                "quant_method": "fp8",
                "weight_block_size": [128, 128],
            }
        },
        functools.partial(floats, shape="block", block=(128, 128)),
    ),
    "transformers' FP8, its blocks not stated": Published(
        {"quantization_config": {"activation_scheme": "dynamic", "quant_method": "fp8"}},
        functools.partial(floats, shape="block", block=(128, 128)),
    ),
    "unsloth": Published({"quantization_config": BNB}, KINDS["bitsandbytes nf4, nested"].make),
    "mlx-lm": Published(
        _mlx(group_size=64, bits=4),
        functools.partial(affine, bits=4, group=64, dtype=torch.bfloat16),
    ),
    "mlx-lm of today": Published(
        _mlx(group_size=64, bits=4, mode="affine", lm_head=False),
        functools.partial(affine, bits=4, group=64, dtype=torch.bfloat16),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_matrix_is_read_as_its_maker_means_it(tmp_path: Path, name: str) -> None:
    fields, make, beside = PUBLISHED[name]
    stored = make(np.random.default_rng(7), *SHAPE)
    (tmp_path / "config.json").write_text(json.dumps(fields))
    named = {NAME + suffix: tensor for suffix, tensor in stored.tensors.items()}
    save_file({**named, **beside}, tmp_path / "model.safetensors")
    with open_weights(tmp_path, "numpy", {f"{NAME}.weight": SHAPE}) as weights:
        tensor = weights.quantized(f"{NAME}.weight")
    assert tensor is not None
    assert np.array_equal(tensor.dequantize(), stored.numbers)


@pytest.fixture
def biased(tmp_path: Path) -> Path:
    """A quantised model that has biases of zeros where its family has none."""
    size = Size(1, 64, 192, 4, 2, 16, 320, 256)
    create_checkpoint(tmp_path / "original", family="qwen2", size=size, dtype="float32")
    few, _ = quantize(tmp_path / "original", KINDS["gptq"], tmp_path)
    tensors = load_file(few / "model.safetensors")
    added = {
        f"{LAYER}.{module}.bias": torch.zeros(width, dtype=torch.bfloat16)
        for module, width in (("mlp.gate_proj", 192), ("mlp.down_proj", 64))
    }
    save_file(tensors | added, few / "model.safetensors")
    return few


def test_biases_of_zeros_change_nothing(biased: Path, tmp_path: Path) -> None:
    assert inspect_checkpoint(biased).architecture == "Qwen2ForCausalLM"
    tokens = ([5, 6, 7, 200, 11], 0, [1, 2])
    expected = Runner(tmp_path / "wide").step(tokens)
    torch.testing.assert_close(Runner(biased).step(tokens), expected, rtol=1e-4, atol=1e-4)


def test_a_bias_that_the_model_has_not_is_refused(biased: Path) -> None:
    tensors = load_file(biased / "model.safetensors")
    tensors[f"{NAME}.bias"][3] = 1e-3
    save_file(tensors, biased / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tensor .*down_proj\.bias is unexpected"):
        inspect_checkpoint(biased)
