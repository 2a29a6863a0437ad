"""From what the operator names to a directory: a path, the shipped model, or a hub name."""

from __future__ import annotations

import re
from pathlib import Path

from tandem.engine.checkpoint.formats import FORMATS
from tandem.errors import ConfigurationError

DEMO_MODEL = "tandem-demo"

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_WANTED = ["*.json", "*.jinja", *FORMATS]


def resolve_model(model: str) -> Path:
    """The model's directory; only a hub name touches the network. Raises ConfigurationError."""
    if model == DEMO_MODEL:
        return _ASSETS / DEMO_MODEL
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or model.startswith((".", "~")):
        raise ConfigurationError(f"{model} is not a directory; --model takes a model directory")
    if not _HUB_NAME.fullmatch(model):
        raise ConfigurationError(
            f"{model} is neither a directory nor a Hugging Face name like org/model"
        )
    return _download(model)


def model_name(model: str) -> str:
    """The name under which a model is served: a hub name as it is, a directory by its own name."""
    path = Path(model).expanduser()
    return path.resolve().name if path.is_dir() else model


def _download(name: str) -> Path:
    """Fetches what is not cached yet; the library shows its progress on a terminal."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigurationError(
            f"{name} could not be downloaded: {error}; check the name, the network and, for a "
            "gated model, HF_TOKEN"
        ) from error
