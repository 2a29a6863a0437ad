"""From what the operator names to a directory: a path, the shipped model, or a hub name.

A GGUF is described as a directory; of several in one place a colon says which: `org/model:Q4_K_M`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from tandem.engine.checkpoint.formats import FORMATS, weight_files
from tandem.engine.checkpoint.gguf.choice import MAGIC, SUFFIX, choose, model_stem, part_names
from tandem.engine.checkpoint.index import whole
from tandem.errors import ConfigurationError

DEMO_MODEL = "tandem-demo"

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SNAPSHOT = re.compile(r"[0-9a-f]{40}")
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
#: What describes a model, in its folder itself: copies of other programs lie in folders below.
_DESCRIPTION = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "model.safetensors.index.json",
]


def resolve_model(model: str) -> Path:
    """The model's directory; only a hub name touches the network.

    Raises ConfigurationError, and CheckpointError for a GGUF that is none.
    """
    if model == DEMO_MODEL:
        return _ASSETS / DEMO_MODEL
    path, wanted = _as_path(model), None
    if _is(model, _is_gguf):
        return _described(path)
    if not _is(model, Path.exists):
        model, wanted = _place(model)
        path = _as_path(model)
    if _is(model, Path.is_dir):
        return _folder(path, wanted)
    if wanted is not None and _is(model, _is_gguf):
        raise ConfigurationError(f"{model} is one model: name it without :{wanted}")
    if path.exists():
        raise ConfigurationError(
            f"{model} is neither a directory nor a GGUF; --model takes a model's directory or a "
            f"{SUFFIX} file"
        )
    if path.is_absolute() or path.suffix == SUFFIX or model.startswith((".", "~")):
        raise ConfigurationError(f"{model}: there is no such file or directory")
    if not _HUB_NAME.fullmatch(model):
        raise ConfigurationError(
            f"{model} is neither a directory nor a Hugging Face name like org/model"
        )
    return _download(model, wanted)


def model_name(model: str) -> str:
    """The name under which a model is served: a hub name as it is, a directory by its own name.

    A link is called as its owner calls it, a snapshot in the hub's cache by its name on the hub, a
    GGUF by its file.
    """
    if _is(model, Path.is_file):
        return model_stem(_as_path(model).name)
    place, wanted = (model, None) if _is(model, Path.exists) else _place(model)
    if not _is(place, Path.is_dir):
        return model
    own = Path(os.path.abspath(_as_path(place)))  # noqa: PTH100 - `resolve` would follow the links
    return _folder_name(own, place) + ("" if wanted is None else f":{wanted}")


def _folder_name(own: Path, place: str) -> str:
    cached = _CACHED.fullmatch(own.parent.parent.name)
    if cached is not None and own.parent.name == "snapshots" and _SNAPSHOT.fullmatch(own.name):
        return f"{cached[1]}/{cached[2]}"
    return own.name or place


def _place(model: str) -> tuple[str, str | None]:
    """What is before the last colon, and the one of several models that is named after it."""
    place, colon, wanted = model.rpartition(":")
    return (place, wanted) if colon and place and wanted else (model, None)


def _folder(path: Path, wanted: str | None) -> Path:
    """It or what describes its GGUF, where there are no other weights or one is named."""
    if wanted is None and weight_files(path):
        return path
    name = choose(_gguf_names(path), wanted, str(path))
    return path if name is None else _described(path / name)


def _gguf_names(path: Path) -> list[str]:
    """In the folder, and in those that large ones have for each quantisation."""
    found = [*path.glob(f"*{SUFFIX}"), *path.glob(f"*/*{SUFFIX}")]
    return [file.relative_to(path).as_posix() for file in found]


def _described(file: Path) -> Path:
    from tandem.engine.checkpoint.gguf.folder import describe

    return describe(file)


def _is_gguf(path: Path) -> bool:
    """By its name or its first bytes: programs that keep models by their digests have no names."""
    if not path.is_file():
        return False
    if path.suffix == SUFFIX:
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _is(model: str, test: Callable[[Path], bool]) -> bool:
    """What it is as a path. Raises ConfigurationError when that is not known."""
    try:
        return test(_as_path(model))
    except OSError as error:
        raise ConfigurationError(f"{model} cannot be read: {error.strerror or error}") from error


def _as_path(model: str) -> Path:
    try:
        return Path(model).expanduser()
    except RuntimeError as error:  # `~` of nobody
        raise ConfigurationError(f"{model}: {error}; name the folder in full") from error


def _download(name: str, wanted: str | None) -> Path:
    """Fetches what is read and not cached yet; the library shows its progress on a terminal."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        directory = _fetch(name, _DESCRIPTION)
        if wanted is None and _fetch_weights(name, directory):
            return directory
        first = choose(_published(name, directory), wanted, name)
        if first is None:
            return directory
        path = PurePosixPath(first)
        parts = [str(path.with_name(part)) for part in part_names(path.name)]
        _fetch(name, parts, revision=directory.name)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigurationError(
            f"{name} could not be downloaded: {error}; check the name, the network and, for a "
            "gated model, HF_TOKEN"
        ) from error
    return _described(directory / first)


def _fetch_weights(name: str, directory: Path) -> bool:
    for row in FORMATS.values():
        for files in row.candidates(directory):
            # The same snapshot, whatever is published meanwhile.
            if whole(_fetch(name, files, revision=directory.name), [files]):
                return True
    return False


def _published(name: str, directory: Path) -> list[str]:
    """The names of a repository's GGUF files; those that are here when the hub cannot be asked."""
    from huggingface_hub import list_repo_files

    try:
        files = list_repo_files(name, revision=directory.name)
    except OSError:  # as all failures of the library are
        return _gguf_names(directory)
    return [file for file in files if file.endswith(SUFFIX)]


def _fetch(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=list(files), revision=revision))
