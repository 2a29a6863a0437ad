"""Peculiarities of GPTQ's files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tests.support.quantizers.integers import gptq
from tests.support.quantizers.kinds import words

from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.checkpoint.sharding import Span

NAME = "layers.0.down_proj"


def opened(
    directory: Path, tensors: dict[str, torch.Tensor], columns: Span | None = None, **config: object
) -> QuantizedTensor:
    stated = {"quant_method": "gptq", "bits": 4, "group_size": 32, **config}
    (directory / "config.json").write_text(json.dumps({"quantization_config": stated}))
    save_file(
        {NAME + suffix: part for suffix, part in tensors.items()}, directory / "model.safetensors"
    )
    shape = (32, len(tensors[".g_idx"]))
    with open_weights(directory, "numpy", {f"{NAME}.weight": shape}) as weights:
        tensor = weights.quantized(f"{NAME}.weight", None, columns)
    assert tensor is not None
    return tensor


def test_the_first_versions_zero_points_borrow_within_a_word(tmp_path: Path) -> None:
    """GPTQModel takes one from each of a word's zero points by one subtraction."""
    stored = gptq(np.random.default_rng(1), 32, 64, 4, 32, less_one=False)
    zeros = np.zeros((2, 32), np.uint8)
    zeros[:, 3:] = 5
    packed = words(zeros, 4).numpy().view(np.uint32) - np.uint32(0x11111111)
    tensors = stored.tensors | {".qzeros": torch.from_numpy(packed.view(np.int32))}
    same = stored.tensors | {".qzeros": words(zeros, 4)}
    found = opened(tmp_path, tensors, checkpoint_format="gptq").dequantize()
    expected = opened(tmp_path, same, checkpoint_format="gptq_v2").dequantize()
    assert np.array_equal(found, expected)


def test_a_module_may_have_settings_of_its_own(tmp_path: Path) -> None:
    stored = gptq(np.random.default_rng(2), 32, 64, 8, 16)
    found = opened(tmp_path, stored.tensors, dynamic={"+:.*down.*": {"bits": 8, "group_size": 16}})
    assert np.array_equal(found.dequantize(), stored.numbers)


def test_an_order_is_kept_by_whole_groups(tmp_path: Path) -> None:
    """As the file has it, no more columns than inputs."""
    stored = gptq(np.random.default_rng(3), 32, 256, 4, 64, act_order=True)
    found = opened(tmp_path, stored.tensors, group_size=64)
    assert (found.group, found.shape, found.bits) == (64, (32, 256), 4)
    assert found.order is not None
    assert sorted(found.order.tolist()) == list(range(256))


def test_a_ranks_share_of_an_order_is_filled_up(tmp_path: Path) -> None:
    """Its groups have lost inputs; the rest stays in four bits, with few columns more."""
    stored = gptq(np.random.default_rng(4), 32, 256, 4, 64, act_order=True)
    share = Span(128, 256)
    found = opened(tmp_path, stored.tensors, share, group_size=64)
    assert (found.group, found.bits) == (32, 4)
    assert 128 <= found.shape[1] < 128 + 4 * 32
    assert np.array_equal(found.dequantize(), stored.numbers[:, 128:])
    assert found.order is not None
    states = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    gathered = states[:, torch.from_numpy(found.order)]
    columns = torch.from_numpy(replace(found, order=None).dequantize())
    numbers = torch.from_numpy(stored.numbers[:, 128:])
    torch.testing.assert_close(gathered @ columns.T, states @ numbers.T)
