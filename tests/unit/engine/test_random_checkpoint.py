"""Checkpoints of random weights, made from what a family states about itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tandem.engine import create_checkpoint, inspect_checkpoint, random_checkpoint
from tandem.engine.families import FAMILIES
from tandem.errors import ConfigurationError

NAMES = [family.name for family in FAMILIES.values()]


def digest(directory: Path) -> str:
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("family", NAMES)
def test_every_family_can_be_made_and_is_whole(tmp_path: Path, family: str) -> None:
    create_checkpoint(tmp_path / "m", family=family)
    summary = inspect_checkpoint(tmp_path / "m")
    assert (summary.layers, summary.hidden_size, summary.dtype) == (2, 64, "bfloat16")
    stored = load_file(tmp_path / "m" / "model.safetensors")
    assert summary.parameters == sum(tensor.numel() for tensor in stored.values())


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        create_checkpoint(tmp_path / name, family="llama", seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_norms_scatter_about_one_and_all_else_about_zero(tmp_path: Path) -> None:
    create_checkpoint(tmp_path / "m", family="qwen3", dtype="float32")
    for name, tensor in load_file(tmp_path / "m" / "model.safetensors").items():
        assert float(tensor.mean()) == pytest.approx(1.0 if "norm" in name else 0.0, abs=0.02)


def test_a_large_one_is_several_files_with_the_same_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    create_checkpoint(tmp_path / "one", family="llama", seed=3)
    monkeypatch.setattr(random_checkpoint, "_MAX_FILE_BYTES", 60_000)
    create_checkpoint(
        tmp_path / "many", family="llama", seed=3, on_progress=lambda *done: told.append(done)
    )
    files = sorted((tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 2
    assert all(file.stat().st_size < 70_000 for file in files)
    parts = {name: tensor for file in files for name, tensor in load_file(file).items()}
    whole = load_file(tmp_path / "one" / "model.safetensors")
    assert parts.keys() == whole.keys()
    assert all(tensor.equal(parts[name]) for name, tensor in whole.items())
    assert told == [(number, len(whole)) for number in range(1, len(whole) + 1)]
    assert inspect_checkpoint(tmp_path / "many").files == len(files)


def test_what_is_unknown_or_there_already_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="family is 'gpt2'"):
        create_checkpoint(tmp_path / "m", family="gpt2")
    with pytest.raises(ConfigurationError, match="size is 'huge'"):
        create_checkpoint(tmp_path / "m", family="llama", size="huge")
    create_checkpoint(tmp_path / "m", family="llama")
    with pytest.raises(ConfigurationError, match="already holds a model"):
        create_checkpoint(tmp_path / "m", family="llama")
