"""Layers from a checkpoint's tensors: what is in memory on the way there."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.support.tensors import assert_close, random_quantized, random_tensor

from tandem.engine import EngineOptions, Solo, create_checkpoint, prepare, whole
from tandem.engine.backends.pytorch import loader
from tandem.engine.backends.pytorch.backend import TorchBackend
from tandem.engine.backends.pytorch.layers.linear import (
    Embedding,
    Linear,
    make_linear,
    make_tied,
)
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.checkpoint.dtypes import Quantization
from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.layout import Axis, Division, Pairs, Place, Projection, TensorSpec
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.checkpoint.sharding import Shard, Span


def test_a_linear_map_is_made_with_no_more_in_memory_than_its_own_weight(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Making it packs or quantizes, which takes memory as well."""
    create_checkpoint(tmp_path / "m", family="llama", overrides={"tie_word_embeddings": False})
    matrices: list[weakref.ref[torch.Tensor]] = []
    read = ShardLoader.read

    def watched_read(
        self: ShardLoader, spec: TensorSpec, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        tensor = read(self, spec, dtype)
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


class _FewBits:
    """A source of one matrix, as it is stored or dequantised."""

    def __init__(self, tensor: QuantizedTensor) -> None:
        self._tensor = tensor

    def read(
        self,
        name: str,  # noqa: ARG002
        rows: Span | None,
        columns: Span | None,  # noqa: ARG002
        entry: int | None,  # noqa: ARG002
    ) -> torch.Tensor:
        assert rows is not None
        return torch.from_numpy(self._tensor.rows(rows).dequantize())

    def quantized(
        self,
        name: str,  # noqa: ARG002
        rows: Span | None,
        columns: Span | None,  # noqa: ARG002
        entry: int | None,  # noqa: ARG002
    ) -> QuantizedTensor | None:
        assert rows is not None
        return self._tensor.rows(rows)


def _loader(source: Any) -> ShardLoader:  # noqa: ANN401 - what has weights
    shard = Shard(
        layers=Span(0, 1),
        kv_heads=Span(1, 2),
        columns=Span(0, 1),
        vocabulary=Span(0, 1),
        embeds=False,
        has_head=False,
    )
    return ShardLoader(shard, source, torch.float32, torch.device("cpu"), None, 64)


@pytest.mark.parametrize("bits", [4, 8])
def test_pairs_are_parted_into_halves_whatever_the_bits(bits: int) -> None:
    """Of the second of two ranks, which has the last two of four heads."""
    stored = random_quantized(24, 32, group=16, bits=bits)
    loading = _loader(_FewBits(stored))
    rows = Division(Axis.KV_HEADS, 12)
    spec = TensorSpec("q_proj.weight", (24, 32), rows, pairs=Pairs(each=6, rotated=4))
    order = [12, 14, 13, 15, 16, 17, 18, 20, 19, 21, 22, 23]
    expected = torch.from_numpy(stored.dequantize())[order]
    assert torch.equal(loading.read(spec), expected)
    states = random_tensor(3, 32)
    assert_close(loading.linear(Projection(spec, None))(states), states @ expected.T)


def test_rows_of_a_stacked_tensor_that_alternate_or_stand_as_columns(tmp_path: Path) -> None:
    stored = random_tensor(3, 10, 6)
    save_file(
        {"e": stored, "t": stored.transpose(1, 2).contiguous()}, tmp_path / "model.safetensors"
    )
    with open_weights(tmp_path, "pt", {"e": (3, 10, 6), "t": (3, 6, 10)}) as source:
        loading = _loader(source)
        for first in (0, 1):
            rows = Place((3, 10, 6), first, every=2, entry=2)
            turned = Place((3, 6, 10), first, every=2, entry=2, transposed=True)
            expected = stored[2, first::2]
            assert torch.equal(loading.read(TensorSpec("e", (5, 6), place=rows)), expected)
            assert torch.equal(loading.read(TensorSpec("t", (5, 6), place=turned)), expected)


def test_rows_that_alternate_are_parted_whatever_the_bits() -> None:
    stored = random_quantized(24, 32, group=16)
    spec = TensorSpec("e", (12, 32), place=Place((24, 32), 1, every=2))
    found = _loader(_FewBits(stored)).linear(Projection(spec, None))(torch.eye(32)).T
    torch.testing.assert_close(found, torch.from_numpy(stored.dequantize()[1::2]))


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_stays_in_eight_bits_where_all_else_goes_into_four(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tied: bool
) -> None:
    create_checkpoint(tmp_path / "m", family="llama", overrides={"tie_word_embeddings": tied})
    asked: list[Quantization | None] = []

    def linear(
        weight: torch.Tensor, bias: torch.Tensor | None, quantization: Quantization | None
    ) -> Linear:
        asked.append(quantization)
        return make_linear(weight, bias, quantization)

    def ends(weight: torch.Tensor, quantization: Quantization | None) -> tuple[Embedding, Linear]:
        asked.append(quantization)
        return make_tied(weight, quantization)

    monkeypatch.setattr(loader, "make_linear", linear)
    monkeypatch.setattr(loader, "make_tied", ends)
    options = EngineOptions(directory=tmp_path / "m", quantization=Quantization.INT4, device="cpu")
    setup = prepare(options)
    TorchBackend().load_stage(setup, whole(setup.config), Solo(), blocks=1)
    assert asked.count(Quantization.INT8) == 1
    assert set(asked) == {Quantization.INT8, Quantization.INT4}
