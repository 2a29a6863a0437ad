"""Reading a checkpoint's files: bounded, into typed structs, with errors that name file and field.

Whoever made the folder may be a stranger: nothing is read whose size has not been looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from tandem.errors import CheckpointError

T = TypeVar("T")

_MIB = 2**20
#: Configs, settings and templates; the largest in the wild have some hundred kilobytes.
MAX_JSON_BYTES = 16 * _MIB


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises CheckpointError for what the system says of it: forbidden, gone, no such name."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def is_there(path: Path) -> bool:
    """Whether there is anything of that name. Raises CheckpointError when that is not known."""
    with reading(path):
        return path.exists()


def check_file(path: Path) -> None:
    """Raises CheckpointError for what is no regular file, or not there."""
    with reading(path):
        if not path.is_file():
            raise CheckpointError(f"{path}: {'not a file' if path.exists() else 'missing'}")


def read_bounded(path: Path, limit: int = MAX_JSON_BYTES) -> bytes:
    """A file's bytes. Raises CheckpointError when it is none, unreadable, or over the limit."""
    check_file(path)
    with reading(path), path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise CheckpointError(f"{path}: larger than {limit // _MIB} MiB: not a file of a model")
    return content


def read_text(path: Path) -> str:
    """A text file, its lines ending in a newline. Raises CheckpointError as `read_bounded`."""
    try:
        text = read_bounded(path).decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, kind: type[T], limit: int = MAX_JSON_BYTES) -> T:
    """Decodes a JSON file. Raises CheckpointError naming the file and what is wrong in it."""
    content = read_bounded(path, limit)
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def convert(value: object, kind: type[T], path: Path) -> T:
    """A part of a file that was read as it is. Raises CheckpointError naming file and field."""
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{path}: {error}") from error
