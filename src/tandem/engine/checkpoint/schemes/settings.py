"""What a `config.json` says of how its weights are quantised."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from tandem.engine.checkpoint.config import CONFIG_FILE
from tandem.engine.checkpoint.files import is_there, read_json
from tandem.errors import CheckpointError

T = TypeVar("T")

#: Where it stands: as MLX has it, which repeats it as `transformers` would, and as
#: compressed-tensors had it once.
MLX_FIELD = "quantization"
_FIELDS = (MLX_FIELD, "quantization_config", "compression_config")


class Settings(NamedTuple):
    """`values` are those of the field `field` in the file `path`."""

    path: Path
    field: str
    values: dict[str, Any]

    def inner(self, name: str) -> Settings:
        """Those that stand under a name in these."""
        return Settings(self.path, f"{self.field}.{name}", self.values[name])

    def read(self, kind: type[T]) -> T:
        """Raises CheckpointError naming the file and the field."""
        try:
            return msgspec.convert(self.values, kind)
        except msgspec.ValidationError as error:
            raise CheckpointError(f"{self.path}: {self.field}: {error}") from error

    def unsupported(self, name: str, value: object, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: {self.field}.{name} is {value!r}, which is not supported; "
            f"expected {expected}"
        )


def read_settings(directory: Path) -> Settings | None:
    """None where the weights are not quantised. Raises CheckpointError."""
    path = directory / CONFIG_FILE
    if not is_there(path):
        return None
    config = read_json(path, dict[str, Any])
    for field in _FIELDS:
        values = config.get(field)
        if values is None:
            continue
        if not isinstance(values, dict):
            raise CheckpointError(f"{path}: {field} is not an object")
        return Settings(path, field, values)
    return None
