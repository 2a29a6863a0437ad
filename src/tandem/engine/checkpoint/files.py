"""Reading a checkpoint's JSON files into typed structs, with errors that name file and field."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from tandem.errors import CheckpointError

T = TypeVar("T")


def read_json(path: Path, kind: type[T]) -> T:
    """Decodes a JSON file. Raises CheckpointError naming the file and what is wrong in it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from error
