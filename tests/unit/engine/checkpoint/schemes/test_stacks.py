"""Stacks of matrices, as gpt-oss has its experts; and tensors that nobody reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tests.support.quantizers import KINDS
from tests.support.quantizers.fours import mxfp4_blocks

from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.sharding import Span

STACK = "model.layers.0.mlp.experts.gate_up_proj"


def test_an_entry_of_a_stack_is_read_by_itself(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    experts = [mxfp4_blocks(random, 24, 96) for _ in range(3)]
    tensors = {
        f"{STACK}{part}": torch.stack([one.tensors[f".weight{part}"] for one in experts])
        for part in ("_blocks", "_scales")
    }
    tensors[f"{STACK}_bias"] = torch.zeros(3, 24)
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": settings}))
    save_file(tensors, tmp_path / "model.safetensors")
    expected = {STACK: (3, 24, 96), f"{STACK}_bias": (3, 24)}
    with open_weights(tmp_path, "pt", expected) as weights:
        for number, expert in enumerate(experts):
            part = weights.quantized(STACK, Span(4, 12), Span(32, 80), number)
            assert part is not None
            assert (part.bits, part.group) == (4, 16)
            assert np.array_equal(part.dequantize(), expert.numbers[4:12, 32:80])
            read = weights.read(STACK, entry=number)
            assert isinstance(read, torch.Tensor)
            assert np.array_equal(read.numpy(), expert.numbers)


def test_scales_of_activations_and_caches_are_not_read(tmp_path: Path) -> None:
    kind = KINDS["fp8 of a tensor, static"]
    stored = kind.make(np.random.default_rng(0), 8, 8)
    tensors = {f"k_proj{suffix}": tensor for suffix, tensor in stored.tensors.items()}
    tensors |= {f"k_proj.{name}": torch.ones(()) for name in ("input_scale", "k_scale")}
    (tmp_path / "config.json").write_text(json.dumps(kind.config))
    save_file(tensors, tmp_path / "model.safetensors")
    with open_weights(tmp_path, "numpy", {"k_proj.weight": (8, 8)}) as weights:
        assert np.array_equal(weights.read("k_proj.weight"), stored.numbers)
