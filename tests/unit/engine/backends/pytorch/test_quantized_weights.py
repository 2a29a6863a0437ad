"""A model whose file has weights in few bits computes what their numbers say, alone and divided."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.tensors import assert_close, random_quantized

from tandem.engine import EngineOptions, Solo, Span, StepPlan, prepare, tensor_parallel, whole
from tandem.engine.backends.pytorch.layers.linear import JoinedLinear
from tandem.engine.backends.pytorch.layers.quantized import DequantizingLinear
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.checkpoint import formats
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.checkpoint.safetensors import Safetensors
from tandem.engine.checkpoint.weights import StoredTensor
from tandem.engine.core.step import SampleSpec, SequenceStep
from tandem.engine.families import Size, family_of
from tandem.engine.random_checkpoint import create_checkpoint

SIZE = Size(2, 64, 192, 4, 2, 16, 320, 256)


class FewBits(Safetensors):
    """The matrices of a checkpoint, kept otherwise: values in eight bits, all else in four."""

    def __init__(self, directory: Path, library: str) -> None:
        super().__init__(directory, library)
        self.tensors: Mapping[str, QuantizedTensor] = {
            name: random_quantized(
                *super(FewBits, self).stored(name).shape,
                bits=8 if "v_proj" in name else 4,
                group=16,
                inner=2,
                seed=number,
            )
            for number, name in enumerate(sorted(self.files))
            if len(super(FewBits, self).stored(name).shape) == 2
        }

    def stored(self, name: str) -> StoredTensor:
        stored = super().stored(name)
        return stored._replace(dtype="few", quantized=True) if name in self.tensors else stored

    def read(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> torch.Tensor:
        tensor = self.quantized(name, rows, columns)
        if tensor is not None:
            return torch.from_numpy(tensor.dequantize())
        found: torch.Tensor = super().read(name, rows, columns, entry)
        return found

    def quantized(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> QuantizedTensor | None:
        assert entry is None, "this model has no stacked tensors"
        tensor = self.tensors.get(name)
        if tensor is not None and rows is not None:
            tensor = tensor.rows(rows)
        return tensor if tensor is None or columns is None else tensor.columns(columns)


def logits(directory: Path) -> torch.Tensor:
    setup = prepare(EngineOptions(directory=directory, dtype="float32", device="cpu"))
    stage = setup.backend.load_stage(setup, whole(setup.config), Solo(), 2)
    run = stage.begin(StepPlan(1, [SequenceStep(0, [5, 6, 7], 0, [0], SampleSpec(3))]))
    found: torch.Tensor | None = run.logits(run.forward())
    assert found is not None
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    few, wide = tmp_path / "few", tmp_path / "wide"
    for directory in (few, wide):
        overrides = {"tie_word_embeddings": tied}
        create_checkpoint(
            directory, family="qwen2", size=SIZE, dtype="float32", overrides=overrides
        )
    numbers = load_file(wide / "model.safetensors")
    for name, tensor in FewBits(few, "pt").tensors.items():
        numbers[name] = torch.from_numpy(tensor.dequantize())
    save_file(numbers, wide / "model.safetensors")
    expected = logits(wide)
    opened = formats.Format(formats.FORMATS["safetensors"].candidates, FewBits)
    monkeypatch.setitem(formats.FORMATS, "safetensors", opened)
    assert_close(logits(few), expected)


def test_ranks_hold_their_slices(tmp_path: Path) -> None:
    """Those of columns cut groups of 16 where three ranks share 64 inputs of an output map."""
    size = Size(1, 72, 96, 3, 3, 24, 320, 256)
    create_checkpoint(tmp_path, family="qwen2", size=size, dtype="float32")
    setup = prepare(EngineOptions(directory=tmp_path, dtype="float32", device="cpu"))
    layer = family_of(setup.config).tensors(setup.config).layers[0]
    source = FewBits(tmp_path, "pt")
    source.tensors = {
        layer.attention.output.weight.name: random_quantized(72, 72, group=36),
        layer.mlp.down.weight.name: random_quantized(72, 96, group=24),
    }
    states = torch.randn(4, 96, generator=torch.Generator().manual_seed(0))
    for projection, width in ((layer.attention.output, 72), (layer.mlp.down, 96)):
        found = torch.zeros(4, 72)
        for rank in range(3):
            shard = tensor_parallel(setup.config, rank, 3)
            loader = ShardLoader(shard, source, torch.float32, torch.device("cpu"), None, 64)
            span = Span(width * rank // 3, width * (rank + 1) // 3)
            found += loader.linear(projection)(states[:, span.start : span.stop])
        weight = torch.from_numpy(source.tensors[projection.weight.name].dequantize())
        torch.testing.assert_close(found, states[:, :width] @ weight.T, rtol=1e-4, atol=1e-4)


def test_sums_come_in_float32_where_that_is_asked_for() -> None:
    weight = random_quantized(96, 64)
    states = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    linear = DequantizingLinear(weight, None, torch.device("cpu"))
    found = JoinedLinear([linear, linear])(states, torch.float32)
    rounded = torch.from_numpy(weight.dequantize()).bfloat16().double()
    expected = (states.double() @ rounded.T).repeat(1, 2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
