"""A checkpoint that cannot be loaded says which file, which tensor, and what was expected."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.support.models.drawn_damage import damaged_files, read_all
from tests.support.models.folders import Files, write_folder

from tandem.engine import EngineOptions, Solo, prepare, whole
from tandem.engine.checkpoint.formats import open_weights, weight_files
from tandem.engine.inspect import inspect_checkpoint
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError, ConfigurationError, TandemError

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


def test_an_index_may_name_what_no_file_system_has(tmp_path: Path, original: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(original, directory)
    (directory / WEIGHTS).unlink()
    index = {"weight_map": {QUERY: "a" * 300}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="cannot be read"):
        _load(directory)


def test_weights_that_may_not_be_read_are_named(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a folder that somebody else owns, or on a disk that is gone."""
    directory = tmp_path / "model"
    shutil.copytree(original, directory)
    opened = Path.open

    def refused(path: Path, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        if path.name == WEIGHTS:
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read: Permission"):
        _load(directory)


def test_options_that_make_no_sense_are_refused(original: Path) -> None:
    with pytest.raises(ConfigurationError, match="dtype"):
        prepare(EngineOptions(directory=original, dtype="float8"))


def test_inspection_counts_what_is_there(original: Path) -> None:
    summary = inspect_checkpoint(original)
    counted = sum(tensor.numel() for tensor in load_file(original / WEIGHTS).values())
    assert summary.parameters == counted


def test_an_index_left_over_from_another_export_does_not_count(
    tmp_path: Path, original: Path
) -> None:
    directory = tmp_path / "stale"
    shutil.copytree(original, directory)
    index = {"weight_map": {QUERY: "model-00001-of-00002.safetensors"}}
    (directory / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    _load(directory)
    assert inspect_checkpoint(directory).files == 1


def test_what_a_file_holds_is_what_it_says_itself(tmp_path: Path, original: Path) -> None:
    directory = tmp_path / "mixed"
    shutil.copytree(original, directory)
    _shard(directory)
    path = directory / f"{WEIGHTS}.index.json"
    index = json.loads(path.read_text())
    swapped = {"a.safetensors": "b.safetensors", "b.safetensors": "a.safetensors"}
    index["weight_map"] = {name: swapped[file] for name, file in index["weight_map"].items()}
    path.write_text(json.dumps(index))
    _load(directory)


def test_weights_that_are_not_read_are_not_counted(tmp_path: Path, original: Path) -> None:
    directory = tmp_path / "twice"
    shutil.copytree(original, directory)
    shutil.copy(original / WEIGHTS, directory / "consolidated.safetensors")
    (directory / "original").mkdir()
    shutil.copy(original / WEIGHTS, directory / "original" / WEIGHTS)
    assert inspect_checkpoint(directory) == inspect_checkpoint(original)
    assert [file.name for file in weight_files(directory)] == [WEIGHTS]


def _header(text: str, length: int | None = None, data: bytes = b"") -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def _lying(**fields: object) -> str:
    tensor = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | fields
    return json.dumps({"model.norm.weight": tensor})


HOSTILE: dict[str, bytes] = {
    "a header longer than any file": _header("{}", 2**64 - 1),
    "a header of a gigabyte": _header("{}", 2**30),
    "a header longer than the file": _header("{}", 4000),
    "no header": b"\x01",
    "not JSON": _header("{" * 50),
    "nested without end": _header("[" * 10**6),
    "not a table": _header("[]"),
    "offsets past the end": _header(_lying(data_offsets=[0, 2**40]), data=bytes(16)),
    "offsets backwards": _header(_lying(data_offsets=[16, 0]), data=bytes(16)),
    "offsets below zero": _header(_lying(data_offsets=[-16, 0]), data=bytes(16)),
    "a shape that overflows": _header(_lying(shape=[2**40, 2**40]), data=bytes(16)),
    "a shape below zero": _header(_lying(shape=[-1, 2]), data=bytes(16)),
    "a shape larger than its data": _header(_lying(shape=[3, 2]), data=bytes(16)),
    "an unknown number format": _header(_lying(dtype="F99"), data=bytes(16)),
    "data that nobody owns": _header(_lying(), data=bytes(64)),
    "one tensor over another": _header(
        json.dumps(
            {
                name: {"dtype": "F32", "shape": [4], "data_offsets": [start, start + 16]}
                for name, start in (("a", 0), ("b", 8))
            }
        ),
        data=bytes(24),
    ),
    "one name twice": _header(
        _lying()[:-1] + "," + _lying(data_offsets=[16, 32])[1:], data=bytes(32)
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_that_lies_is_refused(tmp_path: Path, original: Path, name: str) -> None:
    directory = tmp_path / "hostile"
    shutil.copytree(original, directory)
    (directory / WEIGHTS).write_bytes(HOSTILE[name])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        _load(directory)


@settings(max_examples=200, derandomize=True)
@given(st.data())
def test_no_damage_to_a_header_is_more_than_a_sentence(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        directory = Path(folder)
        sound = _header(_lying(), data=bytes(16))
        place = data.draw(st.integers(0, len(sound) - 1))
        noise = data.draw(st.binary(max_size=4))
        (directory / WEIGHTS).write_bytes(sound[:place] + noise + sound[place + len(noise) :])
        shape = {"model.norm.weight": (2, 2)}
        with contextlib.suppress(CheckpointError), open_weights(directory, "numpy", shape) as found:
            assert found.read("model.norm.weight").shape == (2, 2)


@settings(max_examples=100, derandomize=True)
@given(damaged_files())
def test_no_damage_to_a_description_is_more_than_a_sentence(files: Files) -> None:
    with TemporaryDirectory() as directory, contextlib.suppress(TandemError):
        read_all(write_folder(Path(directory), files))
