"""Layers from a checkpoint's tensors: what is in memory on the way there."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch

from tandem.engine import EngineOptions, Solo, create_checkpoint, prepare, whole
from tandem.engine.backends.pytorch import loader
from tandem.engine.backends.pytorch.backend import TorchBackend
from tandem.engine.backends.pytorch.layers.linear import Linear
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.checkpoint.dtypes import Quantization
from tandem.engine.checkpoint.layout import TensorSpec


def test_a_linear_map_is_made_with_no_more_in_memory_than_its_own_weight(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Making it packs or quantizes, which takes memory as well."""
    create_checkpoint(tmp_path / "m", family="llama", overrides={"tie_word_embeddings": False})
    matrices: list[weakref.ref[torch.Tensor]] = []
    read = ShardLoader.read

    def watched_read(self: ShardLoader, spec: TensorSpec) -> torch.Tensor:
        tensor = read(self, spec)
        if tensor.dim() == 2 and spec.name.startswith("model.layers."):
            matrices.append(weakref.ref(tensor))
        return tensor

    def make(weight: torch.Tensor, _: object, __: Quantization | None) -> Linear:
        assert all(matrix() is None or matrix() is weight for matrix in matrices)
        return lambda states, dtype=None: states.to(dtype)

    monkeypatch.setattr(ShardLoader, "read", watched_read)
    monkeypatch.setattr(loader, "make_linear", make)
    setup = prepare(EngineOptions(directory=tmp_path / "m", device="cpu"))
    TorchBackend().load_stage(setup, whole(setup.config), Solo(), blocks=1)
    assert len(matrices) == 7 * setup.config.num_layers
