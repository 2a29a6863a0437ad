"""The folder that stands for a GGUF: written once, whole, and known by the file's state."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import pytest
from tests.support.models.gguf_models import as_gguf

from tandem.engine import model_name, resolve_model
from tandem.engine.checkpoint.formats import weight_files
from tandem.engine.checkpoint.gguf import folder as folders
from tandem.engine.checkpoint.gguf.folder import describe
from tandem.engine.inspect import inspect_checkpoint
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError, ConfigurationError

TINY = {"vocab_size": 6, "eos_token_id": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tandem" / "gguf"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    create_checkpoint(tmp_path / "fox", family="qwen2", overrides=TINY, dtype="float32")
    return tmp_path / "fox"


@pytest.fixture
def file(tmp_path: Path, original: Path) -> Path:
    (tmp_path / "models").mkdir()
    return as_gguf(original, tmp_path / "models" / "fox-Q4_0.gguf", "Q4_0")


def test_it_is_written_once_and_again_when_the_file_changes(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write = folders.write_description

    def counted(folder: Path, parts: list[Path]) -> None:
        written.append(parts)
        write(folder, parts)

    monkeypatch.setattr(folders, "write_description", counted)
    first = describe(file)
    assert (describe(file), len(written)) == (first, 1)
    assert [path.name for path in cache.iterdir()] == [first.name]
    os.utime(file, ns=(1, 1))
    assert describe(file) != first
    assert len(written) == 2


def test_what_stands_for_files_that_are_gone_is_removed(file: Path, cache: Path) -> None:
    moved = file.rename(file.with_name("moved.gguf"))
    before = describe(moved)
    moved.rename(file)
    after = describe(file)
    assert [path.name for path in cache.iterdir()] == [after.name]
    assert not before.exists()


def test_what_a_killed_process_had_begun_is_removed_the_next_day(file: Path, cache: Path) -> None:
    for name in ("new-old", "new-young"):
        (cache / name).mkdir(parents=True)
    os.utime(cache / "new-old", (1, 1))
    folder = describe(file)
    assert {path.name for path in cache.iterdir()} == {folder.name, "new-young"}


def test_what_cannot_be_looked_at_stays(file: Path, cache: Path, tmp_path: Path) -> None:
    """As where another model lies on a disk that this user may not read."""
    (cache / "another" / "linked-gguf").mkdir(parents=True)
    (cache / "another" / "linked-gguf" / "fox.gguf").symlink_to(tmp_path / ("x" * 300))
    (cache / ".DS_Store").write_text("")
    folder = describe(file)
    assert {path.name for path in cache.iterdir()} == {folder.name, "another", ".DS_Store"}


def test_without_any_place_to_write_it_is_said(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a file"))
    with pytest.raises(CheckpointError, match=r"a file/tandem/gguf nor .*; set XDG_CACHE_HOME"):
        describe(file)


def test_a_file_that_is_gone_is_named(file: Path) -> None:
    folder = describe(file)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"models/fox-Q4_0\.gguf: missing"):
        inspect_checkpoint(folder)


def test_a_file_that_is_none_leaves_nothing(file: Path, cache: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"fox-Q4_0\.gguf: not a whole GGUF file"):
        describe(file)
    assert list(cache.iterdir()) == []


def test_several_at_once_write_one_folder(file: Path, cache: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(describe(file))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 6
    assert [path.name for path in cache.iterdir()] == [found[0].name]


def test_without_a_place_to_keep_it_the_process_has_its_own(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file" / "cache"))
    folder = describe(file)
    assert inspect_checkpoint(folder).architecture == "Qwen2ForCausalLM"
    assert describe(file) == folder
    assert not folder.is_relative_to(tmp_path)


def test_a_file_or_a_folder_with_one_is_a_model(file: Path) -> None:
    assert resolve_model(str(file)) == resolve_model(str(file.parent)) == describe(file)
    assert weight_files(describe(file))[0].resolve() == file
    assert model_name(str(file)) == "fox-Q4_0"
    assert model_name(str(file.parent)) == "models"


@pytest.mark.parametrize("name", ["sha256-0a1b", "FOX.GGUF"])
def test_a_file_is_known_by_its_beginning(file: Path, name: str) -> None:
    """Other programs keep models by their digests."""
    other = file.rename(file.with_name(name))
    folder = resolve_model(str(other))
    assert weight_files(folder)[0].resolve() == other
    assert inspect_checkpoint(folder).weight_formats.keys() == {"Q4_0", "float32"}
    assert model_name(str(other)) == name


def test_a_file_that_is_no_model_is_refused_for_what_it_is(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is asked of the hub, as which a path may read."""
    monkeypatch.chdir(file.parent.parent)
    (file.parent / "fox.bin").write_bytes(b"PK\3\4")
    (file.parent / "gone.gguf").symlink_to("nowhere")
    for name, words in (
        ("models/fox.bin", "is neither a directory nor a GGUF"),
        ("models/none.gguf", "there is no such file"),
        ("models/gone.gguf", "there is no such file"),
        ("models/none.gguf:Q4_0", "there is no such file"),
        ("models/fox-Q4_0.gguf:Q4_0", "is one model: name it without :Q4_0"),
        (str(file.parent / "none"), "there is no such file or directory"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            resolve_model(name)


def test_of_several_in_a_folder_one_is_named(file: Path, original: Path) -> None:
    other = as_gguf(original, file.with_name("fox-Q8_0.gguf"), "Q8_0")
    folder = str(file.parent)
    with pytest.raises(ConfigurationError, match=r"2 in GGUF: fox-Q4_0, fox-Q8_0; name one"):
        resolve_model(folder)
    assert resolve_model(f"{folder}:Q8_0") == describe(other)
    assert resolve_model(f"{folder}:fox-Q4_0.gguf") == describe(file)
    assert model_name(f"{folder}:Q8_0") == "models:Q8_0"
    with pytest.raises(ConfigurationError, match="none is 'Q5_0'"):
        resolve_model(f"{folder}:Q5_0")


def test_weights_of_a_folder_go_before_a_gguf_that_lies_in_it(
    original: Path, tmp_path: Path
) -> None:
    beside = as_gguf(original, original / "fox-Q4_0.gguf", "Q4_0")
    assert resolve_model(str(original)) == original
    assert resolve_model(f"{original}:Q4_0") == describe(beside)


def test_parts_are_one_model_by_any_of_them(original: Path, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    as_gguf(original, tmp_path / "parts" / "fox.gguf", split_max_tensors=10)
    files = sorted((tmp_path / "parts").iterdir())
    assert len(files) > 1
    found = {resolve_model(str(part)) for part in [*files, tmp_path / "parts"]}
    assert len(found) == 1
    assert [path.resolve() for path in weight_files(found.pop())] == files
    assert model_name(str(files[1])) == "fox"


def test_it_is_inspected_as_a_folder_is(file: Path) -> None:
    summary = inspect_checkpoint(describe(file))
    assert summary.files == 1
    assert set(summary.weight_formats) == {"Q4_0", "float32"}
    assert summary.weight_bytes == file.stat().st_size
    assert summary.bits_per_weight == round(8 * summary.weight_bytes / summary.parameters, 2)
    assert summary.memory_bytes < 2 * summary.parameters  # as dense, in two bytes each
    assert not summary.chat_template
