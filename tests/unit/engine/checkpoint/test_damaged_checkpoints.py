"""A checkpoint that cannot be loaded says which file, which tensor, and what was expected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tandem.engine import EngineOptions, Solo, prepare, whole
from tandem.engine.inspect import inspect_checkpoint
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError, ConfigurationError

WEIGHTS = "model.safetensors"
QUERY = "model.layers.1.self_attn.q_proj.weight"


def _load(directory: Path) -> None:
    setup = prepare(EngineOptions(directory=directory, device="cpu", threads=1))
    setup.backend.load_stage(setup, whole(setup.config), Solo(), 4)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint") / "tiny"
    create_checkpoint(directory, family="qwen3", dtype="float32")
    return directory


def _edit_config(directory: Path, **fields: Any) -> None:  # noqa: ANN401 - any JSON
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def _edit_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / WEIGHTS)
    change(tensors)
    save_file(tensors, directory / WEIGHTS)


def _misshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors[QUERY] = tensors[QUERY][:-1].contiguous()


def _to_integers(tensors: dict[str, torch.Tensor]) -> None:
    tensors[QUERY] = tensors[QUERY].to(torch.int32)


def _truncate(directory: Path) -> None:
    path = directory / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])


DAMAGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no config": (lambda d: (d / "config.json").unlink(), ["config.json"]),
    "config cut": (lambda d: (d / "config.json").write_text('{"model'), ["config.json"]),
    "unknown architecture": (
        lambda d: _edit_config(d, architectures=["GPT2LMHeadModel"], model_type="gpt2"),
        ["config.json", "GPT2LMHeadModel", "Llama"],
    ),
    "wrong type in config": (
        lambda d: _edit_config(d, hidden_size="64"),
        ["config.json", "hidden_size"],
    ),
    "no weights": (lambda d: (d / WEIGHTS).unlink(), [WEIGHTS]),
    "missing tensor": (
        lambda d: _edit_weights(d, lambda t: t.pop(QUERY)),
        [QUERY, "missing", "[64, 64]"],
    ),
    "wrong shape": (
        lambda d: _edit_weights(d, _misshape),
        [WEIGHTS, QUERY, "[63, 64]", "[64, 64]"],
    ),
    "wrong dtype": (lambda d: _edit_weights(d, _to_integers), [WEIGHTS, QUERY, "I32"]),
    "extra tensor": (
        lambda d: _edit_weights(d, lambda t: t.update(surplus=torch.ones(1))),
        [WEIGHTS, "surplus"],
    ),
    "weights cut": (_truncate, [WEIGHTS, "bytes"]),
    "weights empty": (lambda d: (d / WEIGHTS).write_bytes(b""), [WEIGHTS]),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), ["tokenizer.json"]),
    "tokenizer cut": (lambda d: (d / "tokenizer.json").write_text("{"), ["tokenizer.json"]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_damage_is_named(tmp_path: Path, original: Path, name: str) -> None:
    directory = tmp_path / "damaged"
    shutil.copytree(original, directory)
    damage, words = DAMAGES[name]
    damage(directory)
    with pytest.raises(CheckpointError) as caught:
        _load(directory)
    for word in words:
        assert word in caught.value.message


def _shard(directory: Path) -> None:
    """Splits the single file in two with an index, as large checkpoints come."""
    tensors = load_file(directory / WEIGHTS)
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: tensors[name] for name in own}, directory / file)
    (directory / WEIGHTS).unlink()
    weight_map = {name: file for file, own in parts.items() for name in own}
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def test_a_sharded_checkpoint_loads_and_names_its_missing_file(
    tmp_path: Path, original: Path
) -> None:
    directory = tmp_path / "sharded"
    shutil.copytree(original, directory)
    _shard(directory)
    _load(directory)
    (directory / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors"):
        _load(directory)


def test_an_index_cannot_point_out_of_its_folder(tmp_path: Path, original: Path) -> None:
    directory = tmp_path / "sharded"
    shutil.copytree(original, directory)
    _shard(directory)
    path = directory / f"{WEIGHTS}.index.json"
    path.write_text(path.read_text().replace("a.safetensors", "../a.safetensors"))
    with pytest.raises(CheckpointError, match="plain file name"):
        _load(directory)


def test_options_that_make_no_sense_are_refused(original: Path) -> None:
    with pytest.raises(ConfigurationError, match="dtype"):
        prepare(EngineOptions(directory=original, dtype="float8"))


def test_inspection_counts_what_is_there(original: Path) -> None:
    summary = inspect_checkpoint(original)
    counted = sum(tensor.numel() for tensor in load_file(original / WEIGHTS).values())
    assert summary.parameters == counted
