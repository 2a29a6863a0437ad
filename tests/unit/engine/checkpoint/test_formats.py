"""A format of weights is a source and a row: here NumPy's own, from outside the package."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tandem.engine import EngineOptions, Solo, Span, StepPlan, prepare, whole
from tandem.engine.checkpoint import formats
from tandem.engine.checkpoint.formats import open_weights, weight_files
from tandem.engine.checkpoint.weights import StoredTensor
from tandem.engine.core.step import SampleSpec, SequenceStep
from tandem.engine.families import read_config, tensor_shapes
from tandem.engine.inspect import inspect_checkpoint
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError


class NumpyArchive:
    """A `WeightSource` of one `weights.npz`."""

    def __init__(self, directory: Path, library: str) -> None:
        file = directory / "weights.npz"
        self._tensors = np.load(file)
        self._library = library
        self.files: Mapping[str, Path] = dict.fromkeys(self._tensors.files, file)

    def stored(self, name: str) -> StoredTensor:
        tensor = self._tensors[name]
        return StoredTensor(tensor.shape, str(tensor.dtype))

    def read(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> object:
        assert entry is None, "this model has no stacked tensors"
        spans = [slice(span.start, span.stop) for span in (rows, columns) if span is not None]
        if rows is None and columns is not None:
            spans = [slice(None), *spans]
        part = self._tensors[name][tuple(spans)]
        return torch.from_numpy(part) if self._library == "pt" else part

    def quantized(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> None:
        """All is in floating-point numbers."""

    def close(self) -> None:
        self._tensors.close()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    create_checkpoint(tmp_path / "m", family="qwen2", seed=4, dtype="float32")
    return tmp_path / "m"


@pytest.fixture
def archive(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same model, its weights in the other format."""
    row = formats.Format(lambda _: [["weights.npz"]], NumpyArchive)
    monkeypatch.setitem(formats.FORMATS, "npz", row)
    directory = tmp_path / "archive"
    shutil.copytree(checkpoint, directory, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = {
        name: tensor.numpy() for name, tensor in load_file(checkpoint / "model.safetensors").items()
    }
    np.savez(directory / "weights.npz", **tensors)  # type: ignore[arg-type]
    return directory


def logits(directory: Path) -> torch.Tensor:
    setup = prepare(EngineOptions(directory=directory, dtype="float32", device="cpu"))
    stage = setup.backend.load_stage(setup, whole(setup.config), Solo(), 2)
    run = stage.begin(StepPlan(1, [SequenceStep(0, [5, 6, 7], 0, [0], SampleSpec(3))]))
    found: torch.Tensor | None = run.logits(run.forward())
    assert found is not None
    return found


def test_a_model_is_the_same_in_either_format(checkpoint: Path, archive: Path) -> None:
    assert torch.equal(logits(archive), logits(checkpoint))
    assert inspect_checkpoint(archive).parameters == inspect_checkpoint(checkpoint).parameters


def test_another_format_is_checked_as_well(archive: Path) -> None:
    shapes = tensor_shapes(read_config(archive))
    with open_weights(archive, "pt", shapes) as weights:
        assert set(weights.files) == set(shapes)
    with (
        pytest.raises(CheckpointError, match=r"weights\.npz: tensor model\.norm.* unexpected"),
        open_weights(archive, "pt", {n: s for n, s in shapes.items() if n != "model.norm.weight"}),
    ):
        pass


def test_slices_are_those_of_the_tensor(checkpoint: Path, archive: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    expected = load_file(checkpoint / "model.safetensors")[name][3:9, 5:8]
    for directory in (checkpoint, archive):
        with open_weights(directory, "pt", tensor_shapes(read_config(directory))) as weights:
            assert torch.equal(weights.read(name, Span(3, 9), Span(5, 8)), expected)
            assert weights.read(name, columns=Span(5, 8)).shape == (64, 3)


def test_the_files_of_weights_are_those_of_every_format(checkpoint: Path, archive: Path) -> None:
    assert [file.name for file in weight_files(checkpoint)] == ["model.safetensors"]
    assert [file.name for file in weight_files(archive)] == ["weights.npz"]


def test_some_tensors_may_be_there_or_not(checkpoint: Path) -> None:
    shapes = tensor_shapes(read_config(checkpoint))
    del shapes["model.norm.weight"]
    with open_weights(checkpoint, "pt", shapes, ignored=("norm.weight",)) as weights:
        assert weights.stored("model.norm.weight") == StoredTensor((64,), "float32")


def test_an_empty_folder_is_said_to_lack_the_usual_file(tmp_path: Path) -> None:
    with (
        pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"),
        open_weights(tmp_path, "pt", {}),
    ):
        pass
