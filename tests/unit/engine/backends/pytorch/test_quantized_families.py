"""Families whose layers ask otherwise than Llama's for what a scheme has quantised."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.models.divided import Runner
from tests.support.quantizers import KINDS, quantize
from tests.support.quantizers.fours import mxfp4_blocks
from transformers import AutoModelForCausalLM
from transformers.utils.quantization_config import Mxfp4Config

from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint

SIZE = Size(*(2, 64, 192, 4, 2, 16, 320, 256), experts=4, experts_per_token=2, expert_columns=32)
TOKENS = [5, 6, 7, 200, 11]
WAYS = ("alone", "tp2", "pp2")
WEIGHTS = "model.safetensors"


def assert_same(few: Path, expected: torch.Tensor) -> None:
    assert expected.abs().max() > 0.1
    for way in WAYS:
        found = Runner(few, way).step((TOKENS, 0, [1, 2]))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("phi3", "gptq in act-order"),  # fused tensors
        ("glm4", "compressed 4 bits in act-order"),  # rows in another order
        ("gemma2", "mlx 4 bits"),  # an embedding that is scaled
        ("qwen3_moe", "awq"),
        ("mixtral", "fp8 in blocks"),
        ("deepseek_v3", "fp8 in blocks"),  # a map that is applied the other way round
        ("deepseek_v2", "gptq in act-order"),
    ],
)
def test_logits_are_those_of_the_numbers(tmp_path: Path, family: str, kind: str) -> None:
    create_checkpoint(tmp_path / "m", family=family, size=SIZE, dtype="float32")
    few, wide = quantize(tmp_path / "m", KINDS[kind], tmp_path)
    assert_same(few, Runner(wide).step((TOKENS, 0, [1, 2])))


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
def test_experts_may_be_stacked_as_mlx_has_them(tmp_path: Path, family: str) -> None:
    create_checkpoint(tmp_path / "m", family=family, size=SIZE, dtype="float32")
    few, wide = quantize(tmp_path / "m", KINDS["mlx 4 bits"], tmp_path)
    _stack_experts(few / WEIGHTS)
    assert_same(few, Runner(wide).step((TOKENS, 0, [1, 2])))


def _stack_experts(file: Path) -> None:
    own = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    tensors, stacks = load_file(file), dict[str, dict[int, torch.Tensor]]()
    for name in list(tensors):
        found = re.fullmatch(r"(.*)\.experts\.(\d+)\.(\w+)\.(\w+)", name)
        if found is not None:
            stack = f"{found[1]}.switch_mlp.{own.get(found[3], found[3])}.{found[4]}"
            stacks.setdefault(stack, {})[int(found[2])] = tensors.pop(name)
    tensors |= {
        name: torch.stack([parts[number] for number in sorted(parts)])
        for name, parts in stacks.items()
    }
    save_file(tensors, file)


def test_gpt_oss_computes_what_transformers_does(tmp_path: Path) -> None:
    """Which turns these experts into numbers when it loads them."""
    folder = tmp_path / "m"
    create_checkpoint(
        folder, family="gpt_oss", size=SIZE, dtype="float32", overrides={"num_local_experts": 4}
    )
    random, tensors = np.random.default_rng(0), load_file(folder / WEIGHTS)
    for name in list(tensors):
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, columns, rows = tensors.pop(name).shape
            parts = [mxfp4_blocks(random, rows, columns).tensors for _ in range(experts)]
            for part in ("_blocks", "_scales"):
                tensors[name + part] = torch.stack([one[f".weight{part}"] for one in parts])
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        quantization_config=Mxfp4Config(dequantize=True),
    )
    with torch.inference_mode():
        expected = model(torch.tensor([TOKENS])).logits[0]
    assert_same(folder, expected)
