"""From what the operator names to a directory: a path, the shipped model, or a hub name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tandem.engine.checkpoint.formats import FORMATS
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
    """The model's directory; only a hub name touches the network. Raises ConfigurationError."""
    if model == DEMO_MODEL:
        return _ASSETS / DEMO_MODEL
    path = _as_path(model)
    if _is_folder(model):
        return path
    if path.exists() or path.is_absolute() or model.startswith((".", "~")):
        raise ConfigurationError(f"{model} is not a directory; --model takes a model directory")
    if not _HUB_NAME.fullmatch(model):
        raise ConfigurationError(
            f"{model} is neither a directory nor a Hugging Face name like org/model"
        )
    return _download(model)


def model_name(model: str) -> str:
    """The name under which a model is served: a hub name as it is, a directory by its own name.

    A link is called as its owner calls it, a snapshot in the hub's cache by its name on the hub.
    """
    if not _is_folder(model):
        return model
    own = Path(os.path.abspath(_as_path(model)))  # noqa: PTH100 - `resolve` would follow the links
    cached = _CACHED.fullmatch(own.parent.parent.name)
    if cached is not None and own.parent.name == "snapshots" and _SNAPSHOT.fullmatch(own.name):
        return f"{cached[1]}/{cached[2]}"
    return own.name or model


def _is_folder(model: str) -> bool:
    """Whether it is a path of a folder. Raises ConfigurationError when that is not known."""
    try:
        return _as_path(model).is_dir()
    except OSError as error:
        raise ConfigurationError(f"{model} cannot be read: {error.strerror or error}") from error


def _as_path(model: str) -> Path:
    try:
        return Path(model).expanduser()
    except RuntimeError as error:  # `~` of nobody
        raise ConfigurationError(f"{model}: {error}; name the folder in full") from error


def _download(name: str) -> Path:
    """Fetches what is read and not cached yet; the library shows its progress on a terminal."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        directory = _fetch(name, _DESCRIPTION)
        for row in FORMATS.values():
            for files in row.candidates(directory):
                # The same snapshot, whatever is published meanwhile.
                if whole(_fetch(name, files, revision=directory.name), [files]):
                    return directory
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigurationError(
            f"{name} could not be downloaded: {error}; check the name, the network and, for a "
            "gated model, HF_TOKEN"
        ) from error
    return directory


def _fetch(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=list(files), revision=revision))
