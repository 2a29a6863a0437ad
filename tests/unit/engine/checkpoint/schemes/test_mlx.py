"""Peculiarities of what mlx-lm saves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.support.quantizers.kinds import Stored
from tests.support.quantizers.mlx import affine

from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.sharding import Span
from tandem.errors import CheckpointError

Tensors = dict[str, torch.Tensor]


def drawn(seed: int, bits: int = 4, group: int = 32) -> Stored:
    return affine(np.random.default_rng(seed), 16, 64, bits, group, torch.bfloat16)


def named(module: str, stored: Stored) -> Tensors:
    return {module + suffix: tensor for suffix, tensor in stored.tensors.items()}


def write(directory: Path, tensors: Tensors, **stated: object) -> None:
    settings = {"group_size": 32, "bits": 4, **stated}
    (directory / "config.json").write_text(json.dumps({"quantization": settings}))
    save_file(tensors, directory / "model.safetensors")


def test_modules_may_have_settings_of_their_own(tmp_path: Path) -> None:
    fine, coarse = drawn(1), drawn(2, bits=6, group=64)
    tensors = named("a.q_proj", fine) | named("a.v_proj", coarse)
    tensors["lm_head.weight"] = torch.ones(16, 64)
    own = {"a.v_proj": {"bits": 6, "group_size": 64}, "lm_head": False, "a.q_proj": True}
    write(tmp_path, tensors, **own)
    names = ("a.q_proj.weight", "a.v_proj.weight", "lm_head.weight")
    with open_weights(tmp_path, "numpy", dict.fromkeys(names, (16, 64))) as weights:
        assert np.array_equal(weights.read("a.q_proj.weight"), fine.numbers)
        assert np.array_equal(weights.read("a.v_proj.weight"), coarse.numbers)
        assert weights.quantized("lm_head.weight") is None


@pytest.mark.parametrize(
    ("block", "names"),
    [
        ("mlp", {"gate_proj": "gate_proj", "up_proj": "up_proj", "down_proj": "down_proj"}),
        ("block_sparse_moe", {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}),
    ],
)
def test_a_stack_of_experts_is_presented_one_by_one(
    tmp_path: Path, block: str, names: dict[str, str]
) -> None:
    tensors: Tensors = {}
    experts = {
        own: [drawn(3 * number + place) for number in range(4)] for place, own in enumerate(names)
    }
    for own, stored in experts.items():
        parts = {
            suffix: torch.stack([one.tensors[suffix] for one in stored])
            for suffix in stored[0].tensors
        }
        tensors |= {
            f"model.layers.0.{block}.switch_mlp.{own}{suffix}": part
            for suffix, part in parts.items()
        }
    write(tmp_path, tensors)
    expected = {
        f"model.layers.0.{block}.experts.{number}.{name}.weight": (16, 64)
        for number in range(4)
        for name in names.values()
    }
    with open_weights(tmp_path, "numpy", expected) as weights:
        for own, name in names.items():
            for number, one in enumerate(experts[own]):
                found = weights.quantized(
                    f"model.layers.0.{block}.experts.{number}.{name}.weight",
                    Span(3, 9),
                    Span(32, 64),
                )
                assert found is not None
                assert np.array_equal(found.dequantize(), one.numbers[3:9, 32:])


def test_a_small_file_cannot_claim_more_experts_than_any_model_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.engine.checkpoint.weights._MAX_TENSORS", 7)
    tensors: Tensors = {}
    for name in ("gate_proj", "up_proj"):
        parts = {key: value.expand(4, *value.shape) for key, value in drawn(1).tensors.items()}
        stem = f"model.layers.0.mlp.switch_mlp.{name}"
        tensors |= {stem + suffix: part.contiguous() for suffix, part in parts.items()}
    write(tmp_path, tensors)
    with (
        pytest.raises(CheckpointError, match="more than 7 tensors: not of a model"),
        open_weights(tmp_path, "numpy", {}),
    ):
        pass
