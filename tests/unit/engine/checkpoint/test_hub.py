"""What is fetched of a model on the hub, and what a model is called."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

from tandem.engine import model_name, resolve_model
from tandem.errors import ConfigurationError

COMMIT = "0123456789" * 4
DESCRIPTION = {"config.json": "{}", "tokenizer.json": "{}", "chat_template.jinja": "x"}
SHARDS = {"model-1.safetensors": "1", "model-2.safetensors": "2"}
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
OTHERS = {
    "README.md": "",
    "consolidated.safetensors": "29 GB",
    "original/consolidated.00.pth": "",
    "original/params.json": "{}",
    "metal/model.safetensors": "",
    "onnx/model.onnx": "",
    "onnx/config.json": "{}",
    "pytorch_model.bin": "",
    "training_args.json": "{}",
}


class PlayedHub:
    """One repository, of which the library's own rule says what a pattern means."""

    def __init__(self, directory: Path, files: dict[str, str]) -> None:
        self.snapshot = directory / "models--acme--Fox-5M" / "snapshots" / COMMIT
        self.fetched: list[str] = []
        self._files = files

    def snapshot_download(
        self, name: str, *, allow_patterns: Sequence[str], revision: str | None
    ) -> str:
        assert (name, revision in (None, COMMIT)) == ("acme/Fox-5M", True)
        for file in filter_repo_objects(self._files, allow_patterns=list(allow_patterns)):
            path = self.snapshot / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._files[file])
            self.fetched.append(file)
        return str(self.snapshot)

    def list_repo_files(self, name: str, *, revision: str) -> list[str]:
        assert (name, revision) == ("acme/Fox-5M", COMMIT)
        return list(self._files)

    def open_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)
        monkeypatch.setattr(huggingface_hub, "list_repo_files", self.list_repo_files)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"model.safetensors": "1"}, ["model.safetensors"]),
        (
            SHARDS | {"model.safetensors.index.json": INDEX, "model-9.safetensors": "old"},
            [*SHARDS, "model.safetensors.index.json"],
        ),
        (
            {"model.safetensors": "1", "model.safetensors.index.json": INDEX},
            ["model.safetensors", "model.safetensors.index.json"],
        ),
        ({"additional_chat_templates/rag.jinja": "x"}, ["additional_chat_templates/rag.jinja"]),
    ],
    ids=["one file", "shards", "a stale index", "templates"],
)
def test_only_what_is_read_is_fetched(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    wanted: list[str],
) -> None:
    hub = PlayedHub(tmp_path, DESCRIPTION | OTHERS | files)
    hub.open_to(monkeypatch)
    assert resolve_model("acme/Fox-5M") == hub.snapshot
    assert sorted(hub.fetched) == sorted([*DESCRIPTION, *wanted])


GGUF = {
    "README.md": "",
    "config.json": "{}",
    "Fox-Q4_K_M.gguf": "4",
    "Q8_0/Fox-Q8_0-00001-of-00002.gguf": "8a",
    "Q8_0/Fox-Q8_0-00002-of-00002.gguf": "8b",
    "mmproj-Fox.gguf": "an encoder of images",
}


@pytest.mark.parametrize(
    ("wanted", "files"),
    [
        ("Q4_K_M", ["Fox-Q4_K_M.gguf"]),
        ("Q8_0", [name for name in GGUF if name.startswith("Q8_0/")]),
    ],
)
def test_of_several_quantisations_one_is_fetched_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, files: list[str]
) -> None:
    hub = PlayedHub(tmp_path, GGUF)
    hub.open_to(monkeypatch)
    monkeypatch.setattr("tandem.engine.checkpoint.hub._described", lambda file: file)
    assert resolve_model(f"acme/Fox-5M:{wanted}") == hub.snapshot / files[0]
    assert sorted(hub.fetched) == sorted(["config.json", *files])
    assert model_name(f"acme/Fox-5M:{wanted}") == f"acme/Fox-5M:{wanted}"


def test_several_quantisations_are_listed_and_none_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = PlayedHub(tmp_path, GGUF)
    hub.open_to(monkeypatch)
    with pytest.raises(ConfigurationError, match=r"acme/Fox-5M has 2 in GGUF: Fox-Q4_K_M, Fox-Q8"):
        resolve_model("acme/Fox-5M")
    assert hub.fetched == ["config.json"]


def test_what_was_fetched_is_found_without_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = PlayedHub(tmp_path, GGUF)
    hub.open_to(monkeypatch)
    monkeypatch.setattr("tandem.engine.checkpoint.hub._described", lambda file: file)
    before = resolve_model("acme/Fox-5M:Q4_K_M")

    def unreachable(*_: object, **__: object) -> list[str]:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "list_repo_files", unreachable)
    assert resolve_model("acme/Fox-5M:Q4_K_M") == before
    assert resolve_model("acme/Fox-5M") == before  # the one that is there
    with pytest.raises(ConfigurationError, match="none is 'Q8_0'"):
        resolve_model("acme/Fox-5M:Q8_0")


def test_a_model_that_cannot_be_fetched_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ConfigurationError, match="acme/Fox-5M could not be downloaded: no route"):
        resolve_model("acme/Fox-5M")


@pytest.mark.parametrize("model", ["a" * 5000, "~nobody-has-this-name/model"])
def test_a_name_that_is_no_path_is_refused(model: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(model)):
        resolve_model(model)


def test_a_folder_is_called_as_its_owner_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--acme--Fox-5M" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (tmp_path / "fox").symlink_to(snapshot)
    (tmp_path / COMMIT).mkdir()
    assert model_name(str(snapshot)) == "acme/Fox-5M"
    assert model_name(f"{snapshot}/") == "acme/Fox-5M"
    assert model_name(str(tmp_path / "fox")) == "fox"
    assert model_name(str(tmp_path / COMMIT)) == COMMIT
    assert model_name("acme/Fox-5M") == "acme/Fox-5M"
    monkeypatch.chdir(snapshot)
    assert model_name(".") == "acme/Fox-5M"
