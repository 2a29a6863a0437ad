"""The optional dependencies of a provider: what to say when they are missing."""

from __future__ import annotations

from importlib.util import find_spec

from tandem.errors import ConfigurationError

#: Import names of what `tandem[torch]` installs.
_PACKAGES = ("huggingface_hub", "jinja2", "numpy", "psutil", "safetensors", "tokenizers", "torch")


def require_torch_extra() -> None:
    """Checks, without loading them, for the packages that the engine imports."""
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise ConfigurationError(
            f"this needs {', '.join(missing)}: install what a provider needs with"
            " pip install 'tandem[torch]'"
        )
